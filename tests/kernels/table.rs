//! `docs/kernels.md`: what each kernel did.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::vm::{Kernel, Ran};

/// Where the table begins: what is above is written by hand.
const HERE: &str = "<!-- `make kernels` writes the rest from a run. -->\n";

/// Writes the table into the page.
pub(crate) fn write(columns: &[(Kernel, Vec<Ran>)]) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md");
    let text = fs::read_to_string(&page).unwrap();
    let (above, _) = text.split_once(HERE).expect("the page says where the table begins");
    fs::write(page, format!("{above}{HERE}\n{}", table(columns))).unwrap();
}

fn table(columns: &[(Kernel, Vec<Ran>)]) -> String {
    let mut text = String::from("| |");
    columns.iter().for_each(|(kernel, _)| text.push_str(&format!(" {} |", kernel.release)));
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(columns.len())));
    let jobs = columns.first().map_or(&[][..], |(_, ran)| ran);
    for (row, job) in jobs.iter().enumerate() {
        text.push_str(&format!("| {} |", job.shows));
        columns.iter().for_each(|(_, ran)| text.push_str(&format!(" {} |", cell(&ran[row]))));
        text.push('\n');
    }
    for (kernel, ran) in columns {
        for line in notes(ran) {
            text.push_str(&format!("\n{}: {line}\n", kernel.release));
        }
    }
    text
}

/// How much of it went well, and how long it took.
pub(crate) fn cell(ran: &Ran) -> String {
    let well = if ran.is_well() { "" } else { "**failed** " };
    format!("{well}{} {:.0} s", counted(&ran.log), ran.seconds).trim_start().to_owned()
}

/// What a job counts: tests, or paths of a lab.
fn counted(log: &str) -> String {
    for line in log.lines().rev() {
        if let Some(result) = line.strip_prefix("test result: ") {
            let numbers: Vec<u32> = result.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [passed, failed, ..] = numbers[..] else { continue };
            return format!("{passed} of {} tests,", passed + failed);
        }
        if let Some((paths, _)) = line.split_once(" paths as expected") {
            return format!("{paths} paths,");
        }
    }
    String::from("yes,")
}

/// What was said to be lacking, and what was not tried for that.
fn notes(ran: &[Ran]) -> BTreeSet<String> {
    let lines = ran.iter().flat_map(|ran| ran.log.lines());
    let said = lines.filter(|line| {
        line.starts_with("skipped: ")
            || line.starts_with("note     kernel")
            || line.starts_with("warning  kernel")
    });
    said.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_paths_are_counted_and_what_counts_nothing_is_said_to_be_so() {
        let of = |log: &str| counted(log);
        assert_eq!(of("test result: FAILED. 18 passed; 2 failed; 0 ignored\n"), "18 of 20 tests,");
        assert_eq!(of("node-a ok\n310 of 312 paths as expected.\n"), "310 of 312 paths,");
        assert_eq!(of("ok kernel veth\n"), "yes,");
    }
}
