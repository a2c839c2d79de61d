//! Against the real kernel, in namespaces that each test makes; nft, iptables and conntrack are oracles where they
//! are installed.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use selvedge_netns::Namespace;
use selvedge_ruleset::{Listed, Scope, Table, TableId, Transaction, diff};

use crate::NftSocket;

mod dynamic;
mod firewall;
mod forward;
mod mirror;
mod ownership;
mod packets;
mod policy;
mod samples;
mod tables;
mod watching;

/// Runs a test on a thread of its own in a namespace of its own; says so where none is to be had.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    match Namespace::create() {
        Ok(namespace) => namespace.run(test).expect("a namespace that was just made can be entered"),
        Err(error) => skip(&error.to_string()),
    }
}

/// Says that a test can't run; a failure under CI.
pub(crate) fn skip(reason: &str) {
    println!("skipped: {reason}");
    assert!(std::env::var_os("CI").is_none(), "skipped under CI: {reason}");
}

/// True if a program is installed; otherwise the test says that it is skipped.
pub(crate) fn installed(program: &'static str) -> bool {
    static KNOWN: OnceLock<std::sync::Mutex<BTreeMap<&str, bool>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Default::default).lock().unwrap();
    let found =
        *known.entry(program).or_insert_with(|| Command::new(program).arg("--version").output().is_ok());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Runs a program with a text on its standard input; it must succeed. Gives back what it printed.
pub(crate) fn run(line: &str, input: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it takes to have these tables, given what is there.
pub(crate) fn towards(desired: &BTreeMap<TableId, Table>, observed: &Listed) -> Transaction {
    diff(desired, observed, Scope::Whole)
}

/// Makes the kernel's tables what is desired, and gives back what it then lists.
pub(crate) fn make(socket: &mut NftSocket, desired: &BTreeMap<TableId, Table>) -> Listed {
    let ids: Vec<TableId> = desired.keys().cloned().collect();
    let observed = socket.list(&ids).unwrap();
    socket.apply(&towards(desired, &observed)).unwrap();
    socket.list(&ids).unwrap()
}
