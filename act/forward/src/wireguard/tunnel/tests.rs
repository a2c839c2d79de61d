use std::collections::BTreeMap;

use super::*;

/// Two nodes' tunnels to each other.
fn pair() -> [Tunnel; 2] {
    let [a, b] = [1, 2].map(|secret| Arc::new(Own::new([secret; 32])));
    let to = |own: &Arc<Own>, other: &Arc<Own>| Tunnel::new(PublicKey(*other.public.as_bytes()), 5, own);
    [to(&a, &b), to(&b, &a)]
}

/// An IPv4 packet that says a number.
fn packet(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 21];
    (bytes[0], bytes[3], bytes[20]) = (0x45, 21, number);
    bytes
}

/// Carries a message over; what is answered.
fn carry(message: &[u8], to: &Tunnel) -> Vec<u8> {
    let mut room = [0; MESSAGE];
    match to.enter().unwrap().open(message, &mut room) {
        Opened::Answer(answer) => answer.to_vec(),
        Opened::Nothing => Vec::new(),
        _ => panic!("the message is good"),
    }
}

/// Makes a session that `from` asks for.
fn shake(from: &Tunnel, to: &Tunnel, initiation: &[u8]) {
    let response = carry(initiation, to);
    let keepalive = carry(&response, from);
    assert_eq!((response.len(), keepalive.len(), carry(&keepalive, to).len()), (92, 32, 0));
}

/// Asks for a session; nothing if that was done just now.
fn ask(tunnel: &Tunnel) -> Vec<u8> {
    let mut room = [0; MESSAGE];
    tunnel.enter().unwrap().ask(&mut room).map_or_else(Vec::new, <[u8]>::to_vec)
}

fn waiting(tunnel: &Tunnel) -> Vec<u8> {
    let mut entered = tunnel.enter().unwrap();
    std::iter::from_fn(|| entered.next_waiting()).map(|packet| packet[20]).collect()
}

#[test]
fn the_last_packets_wait_in_their_order_until_there_is_a_session() {
    let [a, b] = pair();
    for number in 0..200 {
        let dropped = a.enter().unwrap().wait(packet(number));
        assert_eq!(dropped, usize::from(number) >= WAITING);
    }
    let initiation = ask(&a);
    assert_eq!(ask(&a), [] as [u8; 0], "it was asked just now");
    assert_eq!(waiting(&a), [] as [u8; 0]);
    shake(&a, &b, &initiation);
    assert_eq!(waiting(&a), (200 - 128..200).collect::<Vec<_>>());

    let mut room = [0; 200];
    let length = b.enter().unwrap().seal(&packet(7), &mut room).unwrap();
    assert_eq!(length, 21 + selvedge_packet::SEALED);
    let mut plain = [0; 200];
    assert!(matches!(a.enter().unwrap().open(&room[..length], &mut plain), Opened::Packet(21)));
    assert_eq!(plain[..21], packet(7));
    assert!(matches!(a.enter().unwrap().open(&room[..length], &mut plain), Opened::Sealed), "twice");
}

#[test]
fn what_waits_is_left_to_the_tunnel_that_comes_after_and_a_closed_one_does_nothing() {
    let [a, b] = pair();
    a.enter().unwrap().wait(packet(1));
    let left = a.close();
    assert!(left.used && a.enter().is_none());
    let [next, _] = pair();
    next.enter().unwrap().wait(packet(2));
    next.inherit(left.waiting);
    next.hurry();
    let mut room = [0; MESSAGE];
    let Due::Message(initiation) = next.enter().unwrap().due(&mut room) else { panic!("it is due") };
    shake(&next, &b, initiation);
    assert_eq!(waiting(&next), [1, 2]);
    assert!(next.close().used && !pair()[0].close().used);
}

#[test]
fn no_two_tunnels_have_one_number() {
    let own = Own::new([1; 32]);
    let first = own.free_index(&BTreeMap::new());
    let taken = BTreeMap::from([((first + 1) % (1 << 24), 0)]);
    assert_eq!(own.free_index(&taken), (first + 2) % (1 << 24));
}
