//! The ways that were given up, for the agent after this one: what didn't get through shouldn't be tried at each start.
//! They are a line each, node and transport, in the run directory, which a reboot empties.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use selvedge_datapath::reach::Findings;
use selvedge_model::transport::Choice;

/// What an earlier agent gave up. What can't be read is nothing: it is found out again.
pub(super) fn read(path: &Path) -> Findings {
    let mut findings = Findings::default();
    let text = fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let Some((node, transport)) = line.split_once(' ') else { continue };
        if let (Ok(node), Ok(Choice::Of(transport))) = (node.parse(), transport.parse()) {
            findings.give_up(&node, transport);
        }
    }
    findings
}

/// Writes what is given up now, if it isn't there; without any there is no file.
pub(super) fn write(path: &Path, findings: &Findings) -> io::Result<()> {
    let lines = findings.given_up().map(|(node, transport)| format!("{node} {transport}\n"));
    let text: String = lines.collect();
    let there = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        there => there?,
    };
    if text == there {
        return Ok(());
    }
    if text.is_empty() {
        return fs::remove_file(path);
    }
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use std::env;

    use selvedge_datapath::reach::Measured;
    use selvedge_model::transport::Transport;

    use super::*;

    #[test]
    fn what_was_given_up_is_known_to_the_next_and_forgotten_when_it_gets_through() {
        let path = env::temp_dir().join(format!("selvedge-given-up-{}", std::process::id()));
        fs::remove_file(&path).ok();
        let node = "node-c".parse().unwrap();
        let ways = [Transport::Direct, Transport::Vxlan];
        assert_eq!(read(&path), Findings::default());
        let mut findings = Findings::default();
        let through = Measured::Through { mtu: 1450 };
        for _ in 0..3 {
            findings.enter(&node, &[(Transport::Direct, Measured::Silent), (Transport::Vxlan, through)]);
        }
        write(&path, &findings).unwrap();
        let mut next = read(&path);
        assert_eq!(next.choose(&node, &ways), Some(Transport::Vxlan), "before anything is measured");
        for _ in 0..3 {
            next.enter(&node, &[(Transport::Direct, through)]);
        }
        write(&path, &next).unwrap();
        assert!(!path.exists());
        fs::write(&path, "no such thing\nnode-c direct\nnode-c carrier-pigeon\n\n").unwrap();
        assert_eq!(read(&path).given_up().count(), 1);
        fs::remove_file(path).unwrap();
    }
}
