use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use selvedge_model::WireguardPeer;

use super::*;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn net(byte: u8) -> IpNet {
    IpNet::new(Ipv4Addr::new(10, 244, byte, 0).into(), 24).unwrap()
}

fn at(byte: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, 0, byte).into()
}

fn wanted(peers: &[(u8, u8, &[u8])]) -> Wireguard {
    let peer = |(name, endpoint, nets): &(u8, u8, &[u8])| WireguardPeer {
        key: key(*name),
        endpoint: at(*endpoint),
        nets: nets.iter().copied().map(net).collect(),
    };
    Wireguard { key: key(0), port: 51820, peers: peers.iter().map(peer).collect() }
}

/// A device that holds that.
fn holding(wanted: &Wireguard) -> Device {
    after(Device::default(), &changes(&Device::default(), wanted), wanted.key)
}

#[test]
fn a_device_that_holds_what_is_wanted_is_left_alone() {
    let all = wanted(&[(1, 1, &[1, 2]), (2, 2, &[])]);
    let device = holding(&all);
    assert_eq!(device.shown(), Some(all.clone()));
    assert!(changes(&device, &all).is_empty());
}

#[test]
fn only_what_differs_of_a_peer_is_set_and_others_are_not_named() {
    let before = holding(&wanted(&[(1, 1, &[1]), (2, 2, &[2]), (3, 3, &[3]), (4, 4, &[])]));
    let told = changes(&before, &wanted(&[(1, 1, &[1]), (2, 9, &[2]), (3, 3, &[3, 4]), (5, 5, &[])]));
    let endpoint = |byte| Some(SocketAddr::new(at(byte), 51820));
    let expected = vec![
        PeerChange::Set { key: key(2), endpoint: endpoint(9), nets: None },
        PeerChange::Set { key: key(3), endpoint: None, nets: Some(vec![net(3), net(4)]) },
        PeerChange::Set { key: key(5), endpoint: endpoint(5), nets: None },
        PeerChange::Remove(key(4)),
    ];
    assert_eq!(told, Changes { key: false, port: None, peers: expected });
}

#[test]
fn a_peer_that_was_heard_from_elsewhere_is_told_where_it_is() {
    let all = wanted(&[(1, 1, &[1])]);
    for strange in [None, Some(SocketAddr::new(at(9), 51820)), Some(SocketAddr::new(at(1), 4500))] {
        let mut device = holding(&all);
        device.peers.get_mut(&key(1)).unwrap().endpoint = strange;
        assert_ne!(device.shown(), Some(all.clone()));
        let told = changes(&device, &all);
        assert_eq!((told.key, told.port, told.peers.len()), (false, None, 1));
        assert_eq!(after(device, &told, all.key).shown(), Some(all.clone()));
    }
}

#[test]
fn a_node_with_another_key_has_its_nets_before_the_one_with_the_old_key_goes() {
    let device = holding(&wanted(&[(1, 1, &[1])]));
    let told = changes(&device, &wanted(&[(2, 1, &[1])]));
    assert!(matches!(&told.peers[..], [PeerChange::Set { .. }, PeerChange::Remove(gone)] if *gone == key(1)));
    assert_eq!(after(device, &told, key(0)).peers[&key(2)].nets, BTreeSet::from([net(1)]));
}

#[test]
fn our_own_key_and_the_port_are_set_only_where_they_differ() {
    let all = wanted(&[(1, 1, &[1])]);
    let (mut other, device) = (all.clone(), holding(&all));
    (other.key, other.port) = (key(7), 7);
    let told = changes(&device, &other);
    assert_eq!((told.key, told.port), (true, Some(7)));
    assert_eq!(after(device, &told, key(7)).shown(), Some(other));
    assert!(changes(&Device::default(), &all).key);
    assert_eq!(Device::default().shown(), None);
}

prop_compose! {
    /// Peers out of a few, and nets out of a few, of which none is two peers'.
    fn some()(own in 0u8..2, port in 1u16..3, owners in prop::collection::vec(0u8..6, 8), places in prop::collection::vec(0u8..3, 6), there in prop::collection::vec(any::<bool>(), 6)) -> Wireguard {
        let peers = (0..6u8).filter(|i| there[usize::from(*i)]).map(|i| {
            let nets = owners.iter().zip(0u8..).filter(|(owner, _)| **owner == i).map(|(_, n)| net(n));
            WireguardPeer { key: key(10 + i), endpoint: at(places[usize::from(i)]), nets: nets.collect() }
        });
        Wireguard { key: key(own), port, peers: peers.collect() }
    }
}

proptest! {
    #[test]
    fn from_whatever_is_there_the_changes_lead_to_what_is_wanted_and_then_there_are_none(now in some(), then in some()) {
        let device = after(holding(&now), &changes(&holding(&now), &then), then.key);
        prop_assert_eq!(device.shown(), Some(then.clone()));
        prop_assert!(changes(&device, &then).is_empty());
    }
}
