//! Tests that cannot run here say so.

use std::io::Write;
use std::path::Path;
use std::{env, fs, io};

/// Says that the calling test cannot run on this machine, and why; the test returns after it.
///
/// # Panics
/// Under `CI=true`, where a test that does not run counts as failed, unless the README names the reason.
pub fn skipped(reason: &str) {
    let line = format!("skipped: {reason}\n");
    // Not with `println!`, which the test harness keeps to itself when a test passes.
    io::stderr().write_all(line.as_bytes()).unwrap_or_else(|error| panic!("write to stderr: {error}"));
    let required = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(
        !required || listed(reason),
        "a test was skipped for a reason that README.md does not list: {reason}"
    );
}

fn listed(reason: &str) -> bool {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    fs::read_to_string(readme).is_ok_and(|text| is_named_in(&text, reason))
}

/// Where the text breaks its lines doesn't matter.
fn is_named_in(text: &str, reason: &str) -> bool {
    text.split_whitespace().collect::<Vec<_>>().join(" ").contains(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_listed_wherever_its_line_is_broken() {
        assert!(is_named_in("- the moon\n  is away: wait.\n", "the moon is away"));
        assert!(!is_named_in("- the moon\n  is away: wait.\n", "the moon was away"));
    }
}
