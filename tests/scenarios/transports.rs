//! How nodes reach each other: labs with every transport, on one segment and on two, and what changes under traffic.

use std::net::IpAddr;

use selvedge_lab::matrix::{Outcome, Probe};
use selvedge_lab::path::PathKind;
use selvedge_lab::plan::Place;

use crate::matrix::{hear_lab, run_lab};

mod changing;
mod overlay;

/// What of a lab's paths goes over an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// None.
    Nothing,
    /// That between node-c and the other two, which are on the other segment.
    BetweenSegments,
    /// All between nodes.
    Everything,
}

/// Labs of three nodes with a pod each, one for each choice of families; routed and bridged by turns.
fn labs(transport: &str, segments: &str, inside: Inside) {
    let modes = if segments == "1" { ["routed", "bridge", "routed"] } else { ["bridge", "routed", "bridge"] };
    for (attach, family) in modes.into_iter().zip(["dual", "ipv6", "ipv4"]) {
        lab(
            &["--transport", transport, "--segments", segments, "--attach", attach, "--family", family],
            inside,
        );
    }
}

/// Runs a lab of three nodes with a pod each, in which every path must be as expected.
fn lab(flags: &[&str], inside: Inside) {
    let Some(matrix) = run_lab(&[flags, &["--pods", "1"]].concat()) else { return };
    // A pod to 3 nodes and back, to 3 pods, and to the outside, by ICMP and TCP.
    let paths = 3 * 10 * 2 * if flags.iter().any(|flag| flag.starts_with("ipv")) { 1 } else { 2 };
    assert_eq!(matrix.cells.len(), paths, "{flags:?}");
    let failed = matrix.failed().map(|(probe, fault)| format!("{}: {fault}", probe.path));
    let wrong = matrix.cells.iter().filter_map(|probe| wrongly_seen(probe, inside));
    let faults: Vec<String> = failed.chain(wrong).collect();
    assert!(faults.is_empty(), "{flags:?}\n{}", faults.join("\n"));
}

/// The source that the receiver saw, held against the addresses that overlays are documented with rather than the
/// lab's own judgement.
fn wrongly_seen(probe: &Probe, inside: Inside) -> Option<String> {
    let Outcome::Reached { seen_source } = probe.outcome else { return None };
    let of = |place: &Place| place.to_string().replace("default/web-", "").replace("node-", "");
    let number = |letter: &str| match letter {
        "a" | "0" => 0,
        "b" | "1" => 1,
        _ => 2,
    };
    let (from, to) = (number(&of(&probe.path.from)), number(&of(&probe.path.to)));
    let crosses = match inside {
        Inside::Nothing => false,
        Inside::BetweenSegments => (from == 2) != (to == 2),
        Inside::Everything => from != to,
    };
    let expected = match (&probe.path.from, probe.path.kind) {
        (Place::Pod(_), PathKind::OtherNode) if crosses => Seen::Node,
        (Place::Node(_), PathKind::FromNode) if crosses => Seen::Overlay,
        _ => return None,
    };
    (expected.by(from) != seen(seen_source)).then(|| format!("{}: seen as {seen_source}", probe.path))
}

enum Seen {
    Node,
    Overlay,
}

impl Seen {
    /// What is seen of a node with that number.
    fn by(&self, node: u16) -> (&'static str, u16) {
        match self {
            Self::Node => ("node", node),
            Self::Overlay => ("overlay", node),
        }
    }
}

/// Whose address it is: nodes have 172.30.SEGMENT.11 and on, and in overlays 10.244.0.0 and on.
fn seen(address: IpAddr) -> (&'static str, u16) {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [172, 30, 0 | 1, host @ 11..=99] => ("node", u16::from(host) - 11),
            [10, 244, node, 0] => ("overlay", u16::from(node)),
            _ => ("nobody", 0),
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfd00, 0x30, 0 | 1, 0, 0, 0, 0, host @ 0x11..=0x99] => ("node", host - 0x11),
            [0xfd00, 0x10, 0x244, node, 0, 0, 0, 0] => ("overlay", node),
            _ => ("nobody", 0),
        },
    }
}

#[test]
fn vxlan_on_one_segment() {
    labs("vxlan", "1", Inside::Everything);
}

#[test]
fn vxlan_on_two_segments() {
    labs("vxlan", "2", Inside::Everything);
}

#[test]
fn auto_on_two_segments_is_an_overlay_between_them() {
    labs("auto", "2", Inside::BetweenSegments);
}

#[test]
fn direct_on_one_segment() {
    // What `auto` does there too, as the labs of every kind show.
    lab(&["--transport", "direct"], Inside::Nothing);
}

#[test]
fn udp_on_one_segment() {
    labs("udp", "1", Inside::Everything);
}

#[test]
fn udp_on_two_segments() {
    labs("udp", "2", Inside::Everything);
}

#[test]
fn wireguard_on_one_segment() {
    labs("wireguard", "1", Inside::Everything);
}

#[test]
fn wireguard_on_two_segments() {
    labs("wireguard", "2", Inside::Everything);
}

#[test]
fn native_on_one_segment() {
    labs("native", "1", Inside::Nothing);
}

#[test]
fn native_on_two_segments() {
    labs("native", "2", Inside::Nothing);
}

#[test]
fn vxlan_with_large_packets_beside_blocked_ports() {
    let flags = ["--transport", "vxlan", "--segments", "2", "--mtu", "9000", "--block", "tcp/443,udp/53"];
    lab(&flags, Inside::Everything);
}

#[test]
fn auto_finds_another_way_while_the_lab_waits_for_it() {
    lab(&["--segments", "2", "--block", "udp/4789"], Inside::BetweenSegments);
}

#[test]
fn what_is_blocked_between_segments_fails_between_them_and_nowhere_else() {
    let flags =
        ["--transport", "vxlan", "--segments", "2", "--pods", "1", "--family", "ipv4", "--block", "udp/4789"];
    let Some((matrix, said)) = hear_lab(&flags) else { return };
    let cause = "node-a: nothing comes back from node-c by UDP 4789 (vxlan)";
    assert_eq!(said.matches(cause).count(), 1, "{said}");
    let of_c = |place: &Place| ["node-c", "default/web-2"].contains(&place.to_string().as_str());
    for probe in &matrix.cells {
        let path = &probe.path;
        let between = of_c(&path.from) != of_c(&path.to) && path.kind != PathKind::Outside;
        // What a pod sends to another node goes beside the overlay.
        let blocked = between && path.kind != PathKind::OtherNode;
        assert_eq!(probe.fault().is_some(), blocked, "{path}\n{matrix}");
    }
}
