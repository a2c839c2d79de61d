//! Packets inside packets: what pods might send to the ports of tunnels.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use selvedge_lab::shape::Attach;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Cluster, Node, within};

use crate::site::name;

const PORT: u16 = 7777;

/// An Ethernet frame in VXLAN (RFC 7348 section 5), with a datagram inside that comes from whom it says.
fn frame(node: &Node, (from, to): (Ipv4Addr, Ipv4Addr)) -> Vec<u8> {
    let link = RouteSocket::open_in(&node.namespace).unwrap().observe_link(&name("selvedge-vx")).unwrap();
    let mac = link.unwrap().mac.unwrap();
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(from.octets().into_iter().chain(to.octets()));
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![8, 0, 0, 0, 0, 0, 83, 0];
    frame.extend(mac.0.into_iter().chain([2, 0, 0, 0, 0, 1, 8, 0]).chain(ip));
    frame.extend(PORT.to_be_bytes().into_iter().chain(PORT.to_be_bytes()).chain([0, 12, 0, 0]));
    frame.extend(b"hey!");
    frame
}

fn v4(addresses: &[IpAddr]) -> Ipv4Addr {
    let v4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    v4.unwrap()
}

fn socket(place: &Namespace, port: u16) -> UdpSocket {
    place.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap()
}

#[test]
fn a_pod_cannot_send_as_another_through_a_tunnels_port() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let _agents = [0, 1].map(|i| cluster.nodes[i].ready_agent());
    let [near, far] = [0, 1].map(|i| &cluster.nodes[i]);
    let (pod, victim, other) =
        (cluster.attach(near, "pod"), cluster.attach(near, "victim"), cluster.attach(far, "c"));
    let hears = socket(victim.pod.namespace(), PORT);
    hears.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let forged = frame(near, (v4(&other.addresses), v4(&victim.addresses)));
    let address =
        |node: &Node| IpAddr::V4(v4(&node.plan.addresses.iter().map(|net| net.addr()).collect::<Vec<_>>()));
    let to_near = SocketAddr::new(address(near), 4789);
    // The other node may send it, which shows that it is what it should be.
    let mut heard = [0; 16];
    let mut arrives = |from: &UdpSocket| {
        from.send_to(&forged, to_near).ok();
        hears.recv_from(&mut heard)
    };
    let node = socket(&far.namespace, 0);
    within(30.0, "a node's packet arrives", || arrives(&node).map(drop).map_err(|why| why.to_string()));
    while hears.recv_from(&mut [0; 16]).is_ok() {}
    // A pod of the same node, and one of another whose packets leave with its node's address.
    for from in [&pod, &other] {
        let result = arrives(&socket(from.pod.namespace(), 0));
        assert_eq!(result.map_err(|why| why.kind()), Err(ErrorKind::WouldBlock), "{from:?}");
    }
}
