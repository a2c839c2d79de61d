//! Against the real kernel. Many have no WireGuard: of the device itself something is seen only on those that do.

use std::env;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use selvedge_datapath::step::{NetStep, VethPair};
use selvedge_model::{MacAddr, Mtu, PublicKey, WireguardPeer};
use selvedge_netns::Namespace;

use super::*;

const PORT: u16 = 51820;

fn secret(name: &str) -> SecretKey {
    let file = env::temp_dir().join(format!("selvedge-kernel-{}-{name}", std::process::id()));
    let secret = SecretKey::generate(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    secret
}

#[test]
fn no_link_and_a_link_of_another_kind_are_no_device_of_ours_and_stay() {
    let place = match Namespace::create() {
        Ok(place) => place,
        Err(error) => return println!("skipped: {error}"),
    };
    let mut kernel = place.run(Kernel::open).unwrap().unwrap();
    let secret = secret("none");
    let wanted = Wireguard { key: secret.public(), port: PORT, peers: Vec::new() };
    assert_eq!(kernel.get().unwrap(), None);
    kernel.delete().unwrap();
    assert!(matches!(kernel.set(&wanted, &secret), Err(WireguardError::Missing)));
    let wrong = kernel.set(&Wireguard { key: PublicKey([1; 32]), ..wanted.clone() }, &secret);
    assert!(matches!(wrong, Err(WireguardError::OtherKey { .. })), "{wrong:?}");
    let name = kernel.name.clone();
    let (mac, mtu, alias) = (MacAddr([2, 0, 0, 0, 0, 1]), Mtu::ETHERNET, String::new());
    let bridge = NetStep::CreateBridge { name, mac, mtu, alias };
    kernel.route.apply_until_failure(&[bridge], None).unwrap();
    assert_eq!(kernel.get().unwrap(), None);
    assert!(matches!(kernel.set(&wanted, &secret), Err(WireguardError::Missing)));
    kernel.delete().unwrap();
    assert!(kernel.route.has_link(&kernel.name).unwrap(), "a bridge of that name stays");
    assert!(kernel.create().is_err());
}

/// A node: its namespace, the device there, and the key that it has.
struct Node {
    place: Namespace,
    kernel: Kernel,
    secret: SecretKey,
    number: u8,
}

impl Node {
    fn new(number: u8) -> Self {
        let place = Namespace::create().unwrap();
        let kernel = place.run(Kernel::open).unwrap().unwrap();
        Self { place, kernel, secret: secret(&number.to_string()), number }
    }

    /// Carries out commands in its namespace; true if all succeed.
    fn run(&self, lines: &[&str]) -> bool {
        let run = |line: &str| {
            let mut words = line.split(' ');
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            println!("{line}: {output:?}");
            output.status.success()
        };
        self.place.run(|| lines.iter().all(|line| run(line))).unwrap()
    }

    /// Addresses and routes, as the agent makes them.
    fn address(&self, other: &Self) {
        let (own, theirs) = (self.number, other.number);
        let lines = [
            &format!("ip addr add 172.30.0.{own}/24 dev under"),
            "ip link set under up",
            &format!("ip addr add 10.244.{own}.0/32 dev selvedge-wg"),
            "ip link set selvedge-wg up",
            &format!("ip route add 10.244.{theirs}.0/24 dev selvedge-wg"),
        ];
        assert!(self.run(&lines));
    }

    fn as_peer(&self) -> WireguardPeer {
        let net = format!("10.244.{}.0/24", self.number).parse().unwrap();
        let endpoint = Ipv4Addr::new(172, 30, 0, self.number).into();
        WireguardPeer { key: self.secret.public(), endpoint, nets: vec![net] }
    }

    /// Sets it, and holds what is there then against it.
    fn set(&mut self, mut peers: Vec<WireguardPeer>) {
        peers.sort_by_key(|peer| peer.key);
        let wanted = Wireguard { key: self.secret.public(), port: PORT, peers };
        self.kernel.set(&wanted, &self.secret).unwrap();
        let there = self.kernel.get().unwrap().unwrap().unwrap();
        assert_eq!((there.key, there.port, there.peers.len()), (wanted.key, PORT, wanted.peers.len()));
        assert!(there == wanted, "{there:?} is not {wanted:?}");
    }

    /// A socket at its address behind the device.
    fn socket(&self) -> UdpSocket {
        let at = (Ipv4Addr::new(10, 244, self.number, 0), 7000);
        self.place.run(|| UdpSocket::bind(at)).unwrap().unwrap()
    }

    /// Whether the other is reached, within so many tries.
    fn reaches(&self, other: &Self, tries: u32) -> bool {
        let (from, to) = (self.socket(), other.socket());
        to.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        (0..tries).any(|_| {
            // Without a peer there it can't even be sent.
            let sent = from.send_to(b"hello", to.local_addr().unwrap());
            let mut heard = [0; 9];
            sent.is_ok()
                && to.recv_from(&mut heard).is_ok_and(|(n, at)| n == 5 && at == from.local_addr().unwrap())
        })
    }
}

/// Two nodes with a cable between them; `None` where the kernel has no WireGuard.
fn nodes() -> Option<[Node; 2]> {
    if let Err(error) = Namespace::create() {
        println!("skipped: {error}");
        return None;
    }
    let [mut a, b] = [11, 12].map(Node::new);
    if !a.kernel.is_supported() {
        println!("skipped: this kernel has no WireGuard");
        return None;
    }
    let (mac, mtu) = (|byte| MacAddr([2, 0, 0, 0, 0, byte]), Mtu::ETHERNET);
    let under: IfName = "under".parse().unwrap();
    let (host, pod, alias) = (under.clone(), under, String::new());
    let pair = VethPair { host, host_mac: mac(1), alias, master: None, pod, pod_mac: mac(2), mtu };
    a.kernel.route.apply_until_failure(&[NetStep::CreateVeth(pair)], Some(b.place.as_fd())).unwrap();
    Some([a, b])
}

#[test]
fn two_nodes_reach_each_other_encrypted_also_with_another_key_and_not_without_one() {
    let Some([mut a, mut b]) = nodes() else { return };
    for node in [&mut a, &mut b] {
        node.kernel.create().unwrap();
        assert!(node.kernel.create().is_err(), "it is there");
        assert_eq!(node.kernel.get().unwrap(), Some(None), "it has no key yet");
    }
    a.address(&b);
    b.address(&a);
    a.set(vec![b.as_peer()]);
    b.set(vec![a.as_peer()]);
    assert!(a.reaches(&b, 10) && b.reaches(&a, 10));
    let key = a.secret.public();
    b.secret = secret("other");
    b.set(vec![a.as_peer()]);
    a.set(vec![b.as_peer()]);
    assert!(a.reaches(&b, 10), "with another key");
    let others = (0..50).map(|n| WireguardPeer { key: PublicKey([n; 32]), nets: Vec::new(), ..b.as_peer() });
    a.set(others.chain([b.as_peer()]).collect());
    assert!(a.reaches(&b, 10), "beside others");
    assert_eq!(a.secret.public(), key);
    a.set(Vec::new());
    assert!(!a.reaches(&b, 2), "without a peer");
    a.kernel.delete().unwrap();
    assert_eq!(a.kernel.get().unwrap(), None);
    a.kernel.delete().unwrap();
}

#[test]
fn thousands_of_peers_are_set_and_read_and_half_of_them_taken_away() {
    let Some([mut a, _]) = nodes() else { return };
    a.kernel.create().unwrap();
    let key = |n: u16| {
        let [high, low] = n.to_be_bytes();
        PublicKey(std::array::from_fn(|i| [high, low, 5][i % 3]))
    };
    let peer = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let nets = [format!("10.{high}.{low}.0/24"), format!("fd00:{n:x}::/64")];
        let endpoint = Ipv4Addr::new(172, 31, high, low).into();
        WireguardPeer { key: key(n), endpoint, nets: nets.map(|net| net.parse().unwrap()).to_vec() }
    };
    let mut all: Vec<WireguardPeer> = (1..2000).map(peer).collect();
    // More than fit into one message.
    let host = |n: u32| ipnet::IpNet::new(Ipv4Addr::from(0xc000_0000 + n).into(), 32).unwrap();
    all[1000].nets = (0..3000).map(host).collect();
    a.set(all.clone());
    let half: Vec<WireguardPeer> = all.iter().step_by(2).cloned().collect();
    a.set(half.clone());
    a.set(all.iter().rev().step_by(3).cloned().collect());
    // A net that another peer had.
    let (mut one, mut other) = (all[0].clone(), all[1].clone());
    std::mem::swap(&mut one.nets, &mut other.nets);
    a.set(vec![all[0].clone(), all[1].clone()]);
    a.set(vec![one, other]);
}
