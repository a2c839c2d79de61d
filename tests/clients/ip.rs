//! What a person at a terminal sees and does in a namespace.

use std::process::Command;

use selvedge_netns::Namespace;

/// Runs a command line in a namespace; it must succeed. What it prints.
pub(crate) fn must(place: &Namespace, line: &str) -> String {
    let (succeeded, said) = run(place, line);
    assert!(succeeded, "{line}: {said}");
    said
}

/// Runs a command line in a namespace: whether it succeeded, and what it printed.
pub(crate) fn run(place: &Namespace, line: &str) -> (bool, String) {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = place.run(|| Command::new(program).args(words).output()).unwrap();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// True if a namespace has a link of this name.
pub(crate) fn has_link(place: &Namespace, name: &str) -> bool {
    run(place, &format!("ip link show {name}")).0
}
