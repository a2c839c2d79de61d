//! WireGuard's forwarder: what passes is what passes over UDP, and nobody on the way can read it.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_forward::Client;
use selvedge_model::{Forwarding, PublicKey, Wireguard, WireguardPeer};
use selvedge_netns::Namespace;
use selvedge_tests::{Capture, Drip, Echo, Stage, Stream, frames_with, within};
use selvedge_wireguard::{SecretKey, key_file};

use super::ground::{
    PORT, Pair, Side, Tunnel, datagram, everything_passes, overlay, peer, ping, shell, start, transfer,
    underlay, wait_until_there,
};

/// A retry of a handshake is 5 s away, and what was missed should not have to wait for one.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn both_families_pass_wireguard_over_ipv4() {
    everything_passes::<Wireguard>(false);
}

#[test]
fn both_families_pass_wireguard_over_ipv6() {
    everything_passes::<Wireguard>(true);
}

/// A piece of what [`transfer`] sends, and a run of what [`datagram`] does.
const MARKS: [&[u8]; 2] = [b"\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f\x30", &[7; 64]];

/// Sends both, and returns what passed the wire.
fn seen_on_the_wire<T: Tunnel>() -> Option<Vec<Vec<u8>>> {
    let Pair { a, b, wire } = Pair::<T>::new(false)?;
    let capture = Capture::start(wire.node());
    for (own, there) in overlay(0).into_iter().zip(overlay(1)) {
        transfer(a.node(), (b.node(), there), 1 << 20);
        datagram((a.node(), own), (b.node(), there), 1000);
    }
    Some(capture.end())
}

#[test]
fn nobody_on_the_way_reads_what_passes_wireguard() {
    let Some(frames) = seen_on_the_wire::<Forwarding>() else { return };
    for mark in MARKS {
        assert!(frames_with(&frames, mark) > 0, "without encryption it can be read");
    }
    let Some(frames) = seen_on_the_wire::<Wireguard>() else { return };
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert!(bytes > 2 << 20, "what passed was seen: {bytes} bytes");
    for mark in MARKS {
        assert_eq!(frames_with(&frames, mark), 0);
    }
}

/// Sends a datagram in the overlay and does not wait for it.
fn drop_a_line(from: &Namespace, source: IpAddr, to: IpAddr) {
    let socket = from.run(|| UdpSocket::bind((source, 0))).unwrap().unwrap();
    socket.send_to(&[1; 100], (to, 9)).unwrap();
}

#[test]
fn who_has_another_key_is_a_stranger_until_it_is_told() {
    let Some(Pair { a, b, wire: _wire }) = Pair::<Wireguard>::new(false) else { return };
    let (mine, right) = (b.told.key, b.told.clone());
    let elsewhere = Stage::new().unwrap();
    let other = SecretKey::generate(&key_file(elsewhere.folder())).unwrap();
    let mut wrong = a.told.clone();
    wrong.peers[0].key = other.public();
    a.client().set(&wrong).unwrap();
    let [own, _] = overlay(0);
    let [there, _] = overlay(1);
    let before = b.counts();
    drop_a_line(a.node(), own, there);
    drop_a_line(b.node(), there, own);
    within(20.0, "each asked the other in vain", || {
        let (a, b) = (a.counts(), b.counts());
        let strangers = b.dropped_stranger > before.dropped_stranger && a.dropped_stranger > 0;
        if strangers { Ok(()) } else { Err(format!("{a:?} {b:?}")) }
    });
    let counts = [a.counts(), b.counts()];
    assert_eq!(counts.map(|counts| (counts.received_packets, counts.handshakes_done)), [(0, 0); 2]);

    // Only its own key is one's own.
    let pretended = Wireguard { key: other.public(), ..right.clone() };
    let refused = b.client().set(&pretended).unwrap_err().to_string();
    assert!(refused.contains(&format!("is {mine}, not {}", other.public())), "{refused}");
    assert_eq!(b.client().get().unwrap().unwrap().forwarding, Some(right));

    // Who knocked is answered as soon as it is known.
    let told = Instant::now();
    a.client().set(&a.told).unwrap();
    within(20.0, "a session is made", || {
        let counts = a.counts();
        if counts.received_packets > 0 { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    ping(a.node(), there);
}

#[test]
fn only_what_is_behind_a_node_comes_from_it_and_nothing_comes_twice() {
    let Some(Pair { a, b, wire }) = Pair::<Wireguard>::new(false) else { return };
    let ([own, _], [there, _]) = (overlay(0), overlay(1));
    ping(b.node(), own);
    let before = a.counts();
    assert!(shell(b.node(), "ip address add 10.244.9.9/32 dev selvedge-wg"));
    drop_a_line(b.node(), "10.244.9.9".parse().unwrap(), own);
    let counts = within(20.0, "it was looked at", || {
        let counts = a.counts();
        if counts.dropped_source > before.dropped_source { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    assert_eq!(counts.received_packets, before.received_packets);

    // The link's, IP's and UDP's headers are 42 bytes.
    let capture = Capture::start(wire.node());
    datagram((b.node(), there), (a.node(), own), 100);
    let frames = capture.end();
    let sealed = frames.iter().rev().find(|frame| frame.get(42..46) == Some(&[4, 0, 0, 0]));
    let sealed = &sealed.unwrap()[42..];
    let before = within(20.0, "all has come", || {
        let (counts, sent) = (a.counts(), b.counts().sent_packets);
        if counts.received_packets + counts.dropped_source == sent {
            Ok(counts)
        } else {
            Err(format!("{counts:?}"))
        }
    });
    let again = b.node().run(|| UdpSocket::bind((underlay(false, 1), 0))).unwrap().unwrap();
    let mut altered = sealed.to_vec();
    altered[30] ^= 1;
    let mut of_nobody = sealed.to_vec();
    of_nobody[5] ^= 0xff;
    for message in [sealed, &altered, &of_nobody, b"what is this?", &[], &[1; 148], &[0; 3000]] {
        again.send_to(message, (underlay(false, 0), PORT)).ok();
    }
    let mut initiation = [0; 148];
    initiation[0] = 1;
    again.send_to(&initiation, (underlay(false, 0), PORT)).unwrap();
    let counts = within(20.0, "all was looked at", || {
        let counts = a.counts();
        let sealed = counts.dropped_sealed - before.dropped_sealed;
        let malformed = counts.dropped_malformed - before.dropped_malformed;
        let strangers = counts.dropped_stranger - before.dropped_stranger;
        if (sealed, malformed, strangers) == (3, 3, 1) { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    assert_eq!(counts.received_packets, before.received_packets);
    ping(a.node(), there);
}

#[test]
fn a_change_leaves_the_sessions_of_all_who_stay() {
    let Some(Pair { a, b, wire: _wire }) = Pair::<Wireguard>::new(false) else { return };
    let _echo = Echo::serve(b.node());
    let stream = Stream::open(a.node(), overlay(1)[0]).unwrap();
    let before = a.counts().handshakes_begun;
    for round in 0..200u8 {
        let mut told = a.told.clone();
        let others = (2..=round).map(|node| WireguardPeer {
            key: PublicKey([node; 32]),
            endpoint: underlay(false, usize::from(node)),
            nets: peer(false, usize::from(node)).nets,
        });
        told.peers.extend(others);
        told.peers.reverse();
        a.client().set(&told).unwrap();
        assert_eq!(a.client().get().unwrap().unwrap().forwarding, Some(told));
    }
    let force = a.client().get().unwrap().unwrap().forwarding;
    let mut twice = a.told.clone();
    let other = PublicKey([5; 32]);
    twice.peers.push(WireguardPeer { key: other, ..twice.peers[0].clone() });
    let refused = a.client().set(&twice).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("10.244.1.0/24 is behind both {} and {other}", b.told.key)),
        "{refused}"
    );
    assert_eq!(a.client().get().unwrap().unwrap().forwarding, force);
    assert!(stream.close() > 0);
    assert_eq!((a.dropped(), b.dropped()), (0, 0), "{:?} {:?}", a.counts(), b.counts());
    assert_eq!(a.counts().handshakes_begun, before);

    // Who goes away takes its session along.
    a.client().set(&Wireguard { peers: Vec::new(), ..a.told.clone() }).unwrap();
    let before = a.counts();
    drop_a_line(b.node(), overlay(1)[0], overlay(0)[0]);
    drop_a_line(a.node(), overlay(0)[0], overlay(1)[0]);
    within(20.0, "nothing is known of it", || {
        let counts = a.counts();
        let stranger = counts.dropped_stranger > before.dropped_stranger;
        let nobody = counts.dropped_no_peer > before.dropped_no_peer;
        if stranger && nobody { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    assert_eq!(a.counts().received_packets, before.received_packets);
}

/// Datagrams both ways while something happens, and a connection that lives through it; the longest silence either way.
fn silences(
    nodes: &mut Pair<Wireguard>,
    what: impl FnOnce(&mut Side<Wireguard>, &mut Side<Wireguard>),
) -> [Duration; 2] {
    let Pair { a, b, .. } = nodes;
    let _echo = Echo::serve(b.node());
    let ([own, _], [there, _]) = (overlay(0), overlay(1));
    let stream = Stream::open(a.node(), there).unwrap();
    let drips = [
        Drip::start((a.node(), own), (b.node(), there), 9001),
        Drip::start((b.node(), there), (a.node(), own), 9002),
    ];
    thread::sleep(Duration::from_millis(300));
    what(a, b);
    thread::sleep(Duration::from_secs(1));
    let silences = drips.map(Drip::longest_silence);
    assert!(stream.close() > 0);
    silences
}

#[test]
fn connections_outlive_a_killed_forwarder_and_its_node_sends_nothing_in_the_clear() {
    let Some(mut pair) = Pair::<Wireguard>::new(false) else { return };
    let capture = Capture::start(pair.wire.node());
    let silences = silences(&mut pair, |a, _b| {
        a.kill();
        assert!(shell(a.node(), "ip route show dev selvedge-wg | grep -q 10.244.1.0/24"), "routes stay");
        thread::sleep(Duration::from_millis(200));
        a.start_again();
    });
    println!("nothing came for {silences:?}");
    assert!(silences.iter().all(|silence| *silence < SOON), "{silences:?}");
    let frames = capture.end();
    assert!(!frames.is_empty());
    assert_eq!(frames_with(&frames, &[7; 64]), 0, "a datagram could be read");
}

#[test]
fn who_only_receives_is_heard_of_soon_after_its_forwarder_was_started_anew() {
    let Some(Pair { mut a, b, wire: _wire }) = Pair::<Wireguard>::new(false) else { return };
    let drip = Drip::start((b.node(), overlay(1)[0]), (a.node(), overlay(0)[0]), 9001);
    thread::sleep(Duration::from_millis(300));
    a.kill();
    a.start_again();
    thread::sleep(Duration::from_secs(1));
    let silence = drip.longest_silence();
    println!("nothing came for {silence:?}");
    assert!(silence < SOON, "{silence:?}");
}

/// A new key for a node, which the other learns a while before or after it is in force.
fn rotation(other_first: bool) -> Option<[Duration; 2]> {
    let mut pair = Pair::<Wireguard>::new(false)?;
    let silences = silences(&mut pair, |a, b| {
        let new = SecretKey::generate(&key_file(a.stage.folder())).unwrap().public();
        a.told.key = new;
        b.told.peers[0].key = new;
        let mut both = [a, b];
        if other_first {
            both.reverse();
        }
        let [first, second] = both;
        first.client().set(&first.told).unwrap();
        thread::sleep(Duration::from_millis(100));
        second.client().set(&second.told).unwrap();
    });
    println!("nothing came for {silences:?}");
    Some(silences)
}

#[test]
fn a_new_key_is_used_as_soon_as_the_other_node_knows_it() {
    for other_first in [false, true] {
        let Some(silences) = rotation(other_first) else { return };
        assert!(silences.iter().all(|silence| *silence < SOON), "{silences:?}");
    }
}

/// Whether there is a link of WireGuard's name.
fn device(node: &Namespace) -> bool {
    shell(node, "ip link show selvedge-wg > /dev/null 2>&1")
}

#[test]
fn the_device_is_made_when_it_is_needed_and_never_in_anothers_place() {
    let Some(stage) = Stage::new() else { return };
    let told = Wireguard { key: super::ground::key(stage.folder()), port: PORT, peers: Vec::new() };
    let client = Client::<Wireguard>::of(stage.folder());
    let _guard = super::Guard::of([stage.folder() as &Path]);
    assert!(shell(stage.node(), "ip link add selvedge-wg type bridge"));
    let mut forwarder = start::<Wireguard>(&stage);
    wait_until_there::<Wireguard>(&stage);
    let refused = client.set(&told).unwrap_err().to_string();
    assert!(refused.contains("there is a link selvedge-wg already"), "{refused}");
    assert!(shell(stage.node(), "ip -d link show selvedge-wg | grep -q bridge"));
    assert_eq!(client.get().unwrap().unwrap().forwarding, None);

    assert!(shell(stage.node(), "ip link delete selvedge-wg"));
    thread::sleep(Duration::from_millis(300));
    assert!(!device(stage.node()), "nobody needs it yet");
    client.set(&told).unwrap();
    assert!(device(stage.node()));

    forwarder.kill().and_then(|()| forwarder.wait()).unwrap();
    assert!(device(stage.node()), "what is sent stays with it");
    let mut forwarder = start::<Wireguard>(&stage);
    wait_until_there::<Wireguard>(&stage);
    assert!(client.get().unwrap().unwrap().queues > 0, "it is taken over at once");
    client.set(&told).unwrap();
    assert!(shell(stage.node(), "ip link delete selvedge-wg"));
    assert!(!forwarder.wait().unwrap().success(), "without its device it has nothing to do");
}
