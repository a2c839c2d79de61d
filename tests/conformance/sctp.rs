//! SCTP to published ports: INIT and INIT ACK made by hand, since kernels may have no SCTP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, sockopt};
use selvedge_lab::plan::Place;
use selvedge_lab::shape::FamilyChoice;
use selvedge_netns::Namespace;
use serde_json::json;

use crate::published::config;
use crate::site::Site;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(5);

/// An SCTP packet with one chunk (RFC 9260, sections 3.1, 3.3.2 and 3.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    ports: (u16, u16),
    verification_tag: u32,
    chunk: u8,
    initiate_tag: u32,
}

impl Packet {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.verification_tag.to_be_bytes());
        bytes.extend([0; 4]);
        // An INIT ACK carries a cookie.
        let cookie: &[u8] = if self.chunk == INIT_ACK { &[0, 7, 0, 8, 1, 2, 3, 4] } else { &[] };
        bytes.extend([self.chunk, 0]);
        bytes.extend(u16::try_from(20 + cookie.len()).unwrap().to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        // The window, one stream each way, and the first number.
        bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9]);
        bytes.extend(cookie);
        let checksum = crc32c::crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&checksum);
        bytes
    }

    /// The packet that these bytes are; its checksum must be right.
    fn read(bytes: &[u8]) -> Self {
        let mut bare = bytes.to_vec();
        bare[8..12].fill(0);
        assert_eq!(crc32c::crc32c(&bare).to_le_bytes(), bytes[8..12], "the checksum is wrong: {bytes:x?}");
        let short = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
        let long = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Self {
            ports: (short(0), short(2)),
            verification_tag: long(4),
            chunk: bytes[12],
            initiate_tag: long(16),
        }
    }
}

/// A raw socket that hears all SCTP of one family in a namespace.
struct Wire {
    socket: OwnedFd,
    v4: bool,
}

impl Wire {
    fn new(place: &Namespace, v4: bool) -> Self {
        let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let sctp = Protocol::from_raw(NonZeroU32::new(132).unwrap());
        let open = || rustix::net::socket(family, SocketType::RAW, Some(sctp));
        Self { socket: place.run(open).unwrap().unwrap(), v4 }
    }

    fn send(&self, to: IpAddr, packet: Packet) {
        let to = SocketAddr::new(to, 0);
        rustix::net::sendto(&self.socket, &packet.bytes(), SendFlags::empty(), &to).unwrap();
    }

    /// The next packet of that kind of chunk, and who sent it.
    fn next(&self, chunk: u8) -> io::Result<(IpAddr, Packet)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(left))?;
            let mut bytes = [0; 512];
            let (length, _, from) = rustix::net::recvfrom(&self.socket, &mut bytes, RecvFlags::empty())?;
            // With the header of IPv4, without that of IPv6.
            let header = if self.v4 { usize::from(bytes[0] & 15) * 4 } else { 0 };
            let packet = Packet::read(&bytes[header..length]);
            let Some(Ok(from)) = from.map(SocketAddr::try_from) else { continue };
            if packet.chunk == chunk {
                return Ok((from.ip(), packet));
            }
        }
    }
}

fn sctp_is_led_to_a_pod(attach: &str) {
    let Some(mut site) = Site::new(1, FamilyChoice::Dual) else { return };
    let node = site.node(0);
    let before = site.traces(0);
    let mappings = json!([{"HostPort": 3868, "ContainerPort": 38_680, "Protocol": "SCTP", "HostIP": ""}]);
    let web = site.attach(0, "web", &config(attach, &mappings));
    let client = site.attach(0, "client", &config(attach, &json!([])));
    let mut asked = 5000;
    for from in [&Place::Outside, &client, &node, &web] {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let more = if *from == node { &loopback[..] } else { &[] };
        for to in site.addresses(&node).into_iter().chain(more.iter().copied()) {
            asked += 1;
            let [pod, asker] = [&web, from].map(|place| Wire::new(site.space(place), to.is_ipv4()));
            let init =
                Packet { ports: (asked, 3868), verification_tag: 0, chunk: INIT, initiate_tag: asked.into() };
            asker.send(to, init);
            let (seen, heard) = pod.next(INIT).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
            assert_eq!((heard.ports.1, heard.initiate_tag), (38_680, init.initiate_tag), "{from} to {to}");
            let ack = Packet {
                ports: (38_680, heard.ports.0),
                verification_tag: init.initiate_tag,
                chunk: INIT_ACK,
                initiate_tag: 77,
            };
            pod.send(seen, ack);
            let (answers, heard) = asker.next(INIT_ACK).unwrap_or_else(|e| panic!("{to} to {from}: {e}"));
            assert_eq!((answers, heard.ports), (to, (3868, asked)), "{to} to {from}");
        }
    }
    site.detach(&web);
    site.detach(&client);
    site.must_be_back(&before, 0);
}

#[test]
fn sctp_to_a_published_port_reaches_a_bridged_pod_and_the_answer_its_way_back() {
    sctp_is_led_to_a_pod("bridge");
}

#[test]
fn sctp_to_a_published_port_reaches_a_routed_pod_and_the_answer_its_way_back() {
    sctp_is_led_to_a_pod("routed");
}
