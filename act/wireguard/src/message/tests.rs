use std::collections::BTreeSet;

use proptest::prelude::*;
use selvedge_wire::messages;

use super::*;
use crate::device::Peer;

const FAMILY: u16 = 33;

fn datagram(requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    requests.iter().for_each(|request| request.write(1, 0, &mut bytes));
    bytes
}

fn peer(byte: u8, endpoint: &str, nets: &[&str]) -> PeerChange {
    PeerChange::Set {
        key: PublicKey([byte; 32]),
        endpoint: Some(endpoint.parse().unwrap()),
        nets: Some(nets.iter().map(|net| net.parse().unwrap()).collect()),
    }
}

/// What requests set, in the form in which the kernel shows it.
fn shown(requests: &[Request]) -> Device {
    let mut device = Device::default();
    messages(&datagram(requests)).for_each(|message| read(message.payload, &mut device));
    device
}

#[test]
fn the_family_is_asked_for_by_its_name() {
    let bytes = datagram(&[get_family()]);
    let message = messages(&bytes).next().unwrap();
    assert_eq!((message.kind, &message.payload[..HEADER]), (0x10, &[3, 1, 0, 0][..]));
    assert_eq!(attributes(message.payload).text(2).as_deref(), Some("wireguard"));
    let answer = Writer::after(&[1, 2, 0, 0], |w| {
        w.text(FAMILY_NAME, "wireguard");
        w.bytes(FAMILY_ID, &FAMILY.to_ne_bytes());
    });
    assert_eq!(family(&answer), Some(FAMILY));
    assert_eq!(family(&[]), None);
}

#[test]
fn a_removal_is_written_byte_by_byte_as_the_kernel_has_it() {
    let changes = Changes { peers: vec![PeerChange::Remove(PublicKey([7; 32]))], ..Changes::default() };
    let bytes = datagram(&set((FAMILY, "wg"), &changes, &[9; 32]));
    let mut expected: Vec<u8> = vec![1, 1, 0, 0];
    expected.extend([7, 0, 2, 0, b'w', b'g', 0, 0]);
    // Nested: 8 | 1 << 15, and in it type 0 of the array.
    expected.extend([52, 0, 8, 0x80, 48, 0, 0, 0x80]);
    expected.extend([36, 0, 1, 0]);
    expected.extend([7; 32]);
    expected.extend([8, 0, 3, 0, 1, 0, 0, 0]);
    assert_eq!(messages(&bytes).next().unwrap().payload, expected);
}

#[test]
fn what_is_set_reads_back_with_endpoints_and_nets_of_both_families() {
    let peers = vec![
        peer(1, "172.30.0.11:51820", &["10.244.1.0/24", "fd00:10:244:1::/64"]),
        peer(2, "[fd00:30::b]:51820", &[]),
        PeerChange::Set { key: PublicKey([3; 32]), endpoint: None, nets: None },
    ];
    let changes = Changes { key: true, port: Some(51820), peers };
    let requests = set((FAMILY, "selvedge-wg"), &changes, &[9; 32]);
    assert_eq!(requests.len(), 1);
    let device = shown(&requests);
    assert_eq!((device.key, device.port, device.peers.len()), (None, 51820, 3));
    let one = &device.peers[&PublicKey([1; 32])];
    assert_eq!(one.endpoint, Some("172.30.0.11:51820".parse().unwrap()));
    assert_eq!(one.nets, ["10.244.1.0/24", "fd00:10:244:1::/64"].map(|net| net.parse().unwrap()).into());
    assert_eq!(device.peers[&PublicKey([2; 32])].endpoint, Some("[fd00:30::b]:51820".parse().unwrap()));
    assert_eq!(device.peers[&PublicKey([3; 32])], Peer::default());
    let bytes = datagram(&requests);
    let attributes = attributes(messages(&bytes).next().unwrap().payload);
    assert_eq!(attributes.get(of_device::PRIVATE_KEY), Some(&[9; 32][..]));
    assert_eq!(attributes.get(5), None, "no flags: peers are never replaced as a whole");
}

#[test]
fn nothing_to_change_asks_for_nothing_and_the_key_is_sent_only_where_it_is_another() {
    assert!(set((FAMILY, "wg"), &Changes::default(), &[9; 32]).is_empty());
    let port = Changes { port: Some(5), ..Changes::default() };
    let bytes = datagram(&set((FAMILY, "wg"), &port, &[9; 32]));
    let attributes = attributes(messages(&bytes).next().unwrap().payload);
    assert_eq!((attributes.get(of_device::PRIVATE_KEY), attributes.get(of_device::PEERS)), (None, None));
    assert_eq!(attributes.get(of_device::LISTEN_PORT), Some(&5u16.to_ne_bytes()[..]));
}

#[test]
fn thousands_of_peers_and_a_peer_with_thousands_of_nets_come_in_parts_that_read_back_as_one() {
    let nets = |count: u32| -> Vec<IpNet> {
        (0..count).map(|n| IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap()).collect()
    };
    let key = |n: u32| PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 4]));
    let one = |n: u32, nets| PeerChange::Set { key: key(n), endpoint: None, nets: Some(nets) };
    let mut peers: Vec<PeerChange> = (1..5000).map(|n| one(n, vec![])).collect();
    peers.insert(2500, one(0, nets(5000)));
    let changes = Changes { key: true, port: Some(1), peers };
    let requests = set((FAMILY, "selvedge-wg"), &changes, &[9; 32]);
    assert!(requests.len() > 10, "{}", requests.len());
    assert!(requests.iter().all(|request| datagram(std::slice::from_ref(request)).len() < 2 * BATCH));
    let device = shown(&requests);
    assert_eq!(device.peers.len(), 5000);
    assert_eq!(device.peers[&key(0)].nets, nets(5000).into_iter().collect::<BTreeSet<_>>());
    // Only the first entry of a peer has what was there replaced.
    let bytes = datagram(&requests);
    let of_key = messages(&bytes).flat_map(|message| {
        let peers = attributes(message.payload).nest(of_device::PEERS).into_iter().flatten();
        peers.map(|(_, peer)| Reader(peer)).collect::<Vec<_>>()
    });
    let of_key: Vec<_> = of_key.filter(|peer| peer.get(of_peer::PUBLIC_KEY) == Some(&key(0).0[..])).collect();
    let replacing = of_key.iter().filter(|peer| peer.get(of_peer::FLAGS).is_some()).count();
    assert!(of_key.len() > 10 && replacing == 1 && of_key[0].get(of_peer::FLAGS).is_some());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), flip in any::<(u16, u8)>()) {
        read(&bytes, &mut Device::default());
        let changes = Changes { key: true, port: Some(1), peers: vec![peer(1, "[::1]:5", &["10.0.0.0/8"])] };
        let mut near = datagram(&set((FAMILY, "wg"), &changes, &[9; 32]));
        let place = usize::from(flip.0) % near.len();
        near[place] = flip.1;
        messages(&near).for_each(|message| read(message.payload, &mut Device::default()));
    }
}
