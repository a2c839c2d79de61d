//! The forwarders, between two nodes that have nothing else of Selvedge.
//!
//! - here: the udp transport; `wireguard`: WireGuard in user space
//! - `ground`: the nodes, the wire, and what passes

use std::net::{IpAddr, UdpSocket};

use selvedge_forward::ForwardError;
use selvedge_model::{Forwarding, ForwardingPeer};
use selvedge_tests::{Echo, Stream, within};

mod ground;
mod wireguard;

pub(crate) use ground::Guard;
use ground::{PORT, Pair, Side, everything_passes, forwarding, overlay, peer, shell, start, underlay};

#[test]
fn both_families_pass_a_tunnel_over_ipv4() {
    everything_passes::<Forwarding>(false);
}

#[test]
fn both_families_pass_a_tunnel_over_ipv6() {
    everything_passes::<Forwarding>(true);
}

/// An IPv4 packet with nothing in it.
fn bare(source: [u8; 4]) -> [u8; 20] {
    let mut packet = [0; 20];
    (packet[0], packet[3], packet[8], packet[9]) = (0x45, 20, 64, 253);
    packet[12..16].copy_from_slice(&source);
    packet[16..].copy_from_slice(&[10, 244, 0, 0]);
    packet
}

#[test]
fn strangers_and_wrong_sources_are_dropped_and_counted() {
    let Some(Pair { a, b, wire: _wire }) = Pair::<Forwarding>::new(false) else { return };
    assert!(shell(b.node(), "ip address add 192.168.9.99/24 dev wire0"));
    let send = |from: IpAddr, packet: &[u8]| {
        let socket = b.node().run(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
        socket.send_to(packet, (underlay(false, 0), PORT)).unwrap();
    };
    let before = a.counts();
    send("192.168.9.99".parse().unwrap(), &bare([10, 244, 1, 7]));
    send(underlay(false, 1), &bare([10, 244, 2, 7]));
    send(underlay(false, 1), &bare([192, 0, 2, 1]));
    send(underlay(false, 1), b"what is this?");
    send(underlay(false, 1), &bare([10, 244, 1, 7]));
    let counts = within(30.0, "all were looked at", || {
        let counts = a.counts();
        let looked = counts.received_packets - before.received_packets
            + (counts.dropped_stranger + counts.dropped_source + counts.dropped_malformed);
        if looked == 5 { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    let dropped = (counts.dropped_stranger, counts.dropped_source, counts.dropped_malformed);
    assert_eq!((dropped, counts.received_packets - before.received_packets), ((1, 2, 1), 1));
}

#[test]
fn a_state_is_taken_as_a_whole_while_packets_pass() {
    let Some(Pair { a, b, wire: _wire }) = Pair::<Forwarding>::new(false) else { return };
    let _echo = Echo::serve(b.node());
    let stream = Stream::open(a.node(), overlay(1)[0]).unwrap();
    for round in 0..200u8 {
        let mut told = forwarding(false, 0);
        let others = (2..=round).map(|node| peer(false, usize::from(node)));
        told.peers.extend(others);
        told.peers.reverse();
        a.client().set(&told).unwrap();
        assert_eq!(a.client().get().unwrap().unwrap().forwarding, Some(told));
    }
    let before = a.client().get().unwrap().unwrap().forwarding;
    let mut twice = forwarding(false, 0);
    twice.peers.push(ForwardingPeer { endpoint: underlay(false, 5), nets: twice.peers[0].nets.clone() });
    let refused = a.client().set(&twice).unwrap_err().to_string();
    assert!(refused.contains("10.244.1.0/24 is behind both 192.168.9.2 and 192.168.9.6"), "{refused}");
    assert_eq!(a.client().get().unwrap().unwrap().forwarding, before);
    assert!(stream.close() > 0);
    assert_eq!((a.dropped(), b.dropped()), (0, 0), "{:?} {:?}", a.counts(), b.counts());
}

#[test]
fn what_a_killed_forwarder_leaves_the_next_takes_over_and_connections_live() {
    let Some(Pair { mut a, b, wire: _wire }) = Pair::<Forwarding>::new(false) else { return };
    let _echo = Echo::serve(b.node());
    let stream = Stream::open(a.node(), overlay(1)[0]).unwrap();
    let mut second = start::<Forwarding>(&a.stage);
    assert!(!second.wait().unwrap().success(), "there is one already");
    a.kill();
    assert!(shell(a.node(), "ip route show dev selvedge-udp | grep -q 10.244.1.0/24"), "routes stay");
    a.start_again();
    let both = |side: &Side<Forwarding>| side.counts().sent_packets;
    let seen = both(&a);
    within(30.0, "the stream goes on", || {
        if both(&a) > seen { Ok(()) } else { Err(format!("{:?}", a.counts())) }
    });
    assert!(stream.close() > 0);
    assert!(shell(a.node(), "ip link delete selvedge-udp"));
    assert!(!a.forwarder.wait().unwrap().success(), "without its device it has nothing to do");
    assert!(matches!(a.client().set(&forwarding(false, 0)), Err(ForwardError::Silent { .. })));
    b.client().end().unwrap();
}
