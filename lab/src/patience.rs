//! How much longer than usual everything may take: on a machine that a program pretends, ten times and more.

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

/// The variable with the factor, a whole number.
pub const VARIABLE: &str = "SELVEDGE_PATIENCE";

/// So long, times what `SELVEDGE_PATIENCE` says, which is one where it says nothing.
pub fn patience(usual: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    usual * *FACTOR.get_or_init(|| factor(env::var(VARIABLE).ok().as_deref()))
}

fn factor(said: Option<&str>) -> u32 {
    said.and_then(|text| text.parse().ok()).filter(|&factor| factor > 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_longer_than_usual_where_nobody_says_so() {
        assert_eq!([None, Some(""), Some("0"), Some("-1"), Some("soon")].map(factor), [1; 5]);
        assert_eq!(factor(Some("20")), 20);
    }
}
