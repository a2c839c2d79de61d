//! A pod that sends with another's address is not heard.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use selvedge_lab::plan::Place;
use selvedge_lab::shape::FamilyChoice;
use selvedge_netns::Namespace;
use serde_json::{Value, json};

use crate::hand::{add_address, change};
use crate::site::Site;

fn dual(attach: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "mynet", "type": "selvedge", "attach": attach,
        "network": ["10.244.0.0/16", "fd00:10:244::/48"],
        "subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"],
    })
}

/// Has a pod send from an address and then from its own: only the second may arrive.
fn only_its_own_is_heard(
    pod: &Namespace,
    own: IpAddr,
    forged: IpAddr,
    (listener, at): (&UdpSocket, SocketAddr),
) {
    let send =
        |from: IpAddr| pod.run(|| UdpSocket::bind((from, 0))?.send_to(from.to_string().as_bytes(), at));
    send(forged).unwrap().unwrap();
    send(own).unwrap().unwrap();
    let mut heard = [0; 64];
    let (length, from) = loop {
        match listener.recv_from(&mut heard) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    assert_eq!(from.ip(), own, "a datagram from {forged} came through");
    assert_eq!(std::str::from_utf8(&heard[..length]).unwrap(), own.to_string());
}

fn listen(place: &Namespace, address: IpAddr) -> UdpSocket {
    let socket = place.run(|| UdpSocket::bind((address, 7474))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

fn forged_sources_are_dropped(attach: &str) {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let config = dual(attach);
    let [liar, victim, witness] = ["liar", "victim", "witness"].map(|name| site.attach(0, name, &config));
    let node = site.node(0);
    // The address of a neighbour, one that nobody has, and one from far away.
    let foreign = ["10.244.1.77/32", "fd00:10:244:1::77/128", "8.8.8.8/32", "2001:db8:7::7/128"];
    let stolen = site.addresses(&victim).into_iter().map(|ip| ipnet::IpNet::from(ip).to_string());
    let forged: Vec<String> = stolen.chain(foreign.map(str::to_owned)).collect();
    for net in &forged {
        change(site.space(&liar), &[add_address("eth0", net)]);
    }
    for place in [&node, &witness] {
        for address in site.addresses(place) {
            let listener = listen(site.space(place), address);
            let at = SocketAddr::new(address, 7474);
            let own = site.addresses(&liar).into_iter().find(|ip| ip.is_ipv4() == address.is_ipv4()).unwrap();
            let like = forged.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap().addr());
            for forged in like.filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
                only_its_own_is_heard(site.space(&liar), own, forged, (&listener, at));
            }
        }
    }
    // Nor does claiming the address take the victim's packets away from it.
    site.must_reach(&[[&witness, &victim, &witness], [&victim, &Place::Outside, &node]]);
}

#[test]
fn a_bridged_pod_that_sends_from_anothers_address_is_not_heard() {
    forged_sources_are_dropped("bridge");
}

#[test]
fn a_routed_pod_that_sends_from_anothers_address_is_not_heard() {
    forged_sources_are_dropped("routed");
}
