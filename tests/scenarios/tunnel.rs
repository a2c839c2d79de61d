//! The forwarder of the udp transport, between two nodes that have nothing else of Selvedge.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketType, ipproto, sockopt,
};
use selvedge_forward::{Client, Counts, ForwardError};
use selvedge_model::{Forwarding, ForwardingPeer};
use selvedge_netns::Namespace;
use selvedge_tests::{Echo, Stage, Stream, program, within};

/// The underlay's port.
const PORT: u16 = 8383;
/// A port inside.
const INSIDE: u16 = 9000;
/// How long packets may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes on one wire, each with a forwarder.
struct Pair([Side; 2]);

struct Side {
    number: usize,
    stage: Stage,
    forwarder: Child,
    _guard: Guard,
}

/// Ends forwarders, which are in sessions of their own, when it is dropped and when the test is killed: they end without
/// their locks.
pub(crate) struct Guard(Child);

impl Guard {
    /// Of the forwarders in these run directories.
    pub(crate) fn of<'a>(run_dirs: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut remover = Command::new("setsid");
        remover.args(["sh", "-c", "cat > /dev/null; exec rm -f \"$@\"", "sh"]);
        remover.args(run_dirs.into_iter().map(|run_dir| run_dir.join("tunnel-udp.lock")));
        Self(remover.stdin(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Waiting closes what it reads from.
        self.0.wait().ok();
    }
}

/// A forwarder must not outlive its test: it is in a session of its own.
impl Drop for Side {
    fn drop(&mut self) {
        self.forwarder.kill().and_then(|()| self.forwarder.wait()).ok();
    }
}

fn underlay(v6: bool, node: usize) -> IpAddr {
    let address = if v6 { format!("fd09::{}", node + 1) } else { format!("192.168.9.{}", node + 1) };
    address.parse().unwrap()
}

/// A node's addresses in the overlay.
fn overlay(node: usize) -> [IpAddr; 2] {
    [format!("10.244.{node}.0"), format!("fd00:10:244:{node}::")].map(|address| address.parse().unwrap())
}

fn peer(v6: bool, node: usize) -> ForwardingPeer {
    let nets = [format!("10.244.{node}.0/24"), format!("fd00:10:244:{node}::/64")];
    ForwardingPeer { endpoint: underlay(v6, node), nets: nets.map(|net| net.parse().unwrap()).into() }
}

fn forwarding(v6: bool, node: usize) -> Forwarding {
    Forwarding { port: PORT, local: underlay(v6, node), peers: vec![peer(v6, 1 - node)] }
}

fn start(stage: &Stage) -> Child {
    let mut command = Command::new(program("selvedge-tunnel"));
    command.args(["udp", "--run-dir"]).arg(stage.folder()).stdin(Stdio::null());
    stage.node().run(|| command.spawn()).unwrap().unwrap()
}

/// Runs a line of the shell in a node, and says whether it succeeded.
fn shell(node: &Namespace, line: &str) -> bool {
    node.run(|| Command::new("sh").args(["-ec", line]).status()).unwrap().unwrap().success()
}

impl Side {
    fn new(number: usize, stage: Stage, v6: bool) -> Self {
        let forwarder = start(&stage);
        let _guard = Guard::of([stage.folder()]);
        let side = Self { number, stage, forwarder, _guard };
        side.wait_until_there();
        let [v4_own, v6_own] = overlay(number);
        let there = 1 - number;
        let mtu = if v6 { 1452 } else { 1472 };
        let lines = format!(
            "ip link set selvedge-udp mtu {mtu} up
             ip address add {v4_own}/32 dev selvedge-udp
             ip address add {v6_own}/128 dev selvedge-udp nodad
             ip route add 10.244.{there}.0/24 dev selvedge-udp src {v4_own}
             ip route add fd00:10:244:{there}::/64 dev selvedge-udp src {v6_own}"
        );
        assert!(shell(side.node(), &lines));
        side.client().set(&forwarding(v6, number)).unwrap();
        side
    }

    fn node(&self) -> &Namespace {
        self.stage.node()
    }

    fn client(&self) -> Client<Forwarding> {
        Client::of(self.stage.folder())
    }

    fn wait_until_there(&self) {
        within(30.0, "the forwarder answers", || match self.client().get() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn counts(&self) -> Counts {
        self.client().get().unwrap().unwrap().counters
    }

    /// What was dropped for a reason of ours. What the kernel has no room for on a busy machine is sent again.
    fn dropped(&self) -> u64 {
        let counts = self.counts();
        counts.dropped_too_big + counts.dropped_malformed + counts.dropped_stranger + counts.dropped_source
    }
}

impl Pair {
    fn new(v6: bool) -> Option<Self> {
        let stages = [Stage::new()?, Stage::new()?];
        let enter = format!("/proc/{}/fd/{}", std::process::id(), descriptor(stages[1].node()));
        assert!(shell(
            stages[0].node(),
            &format!("ip link add wire0 type veth peer name wire0 netns {enter} 2>/dev/null")
        ));
        for (number, stage) in stages.iter().enumerate() {
            let lines = format!(
                "ip link set lo up; ip link set wire0 up
                 ip address add {}/24 dev wire0; ip address add {}/64 dev wire0 nodad",
                underlay(false, number),
                underlay(true, number)
            );
            assert!(shell(stage.node(), &lines));
        }
        let [a, b] = stages;
        Some(Self([Side::new(0, a, v6), Side::new(1, b, v6)]))
    }
}

fn descriptor(node: &Namespace) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    node.as_fd().as_raw_fd()
}

/// Sends that much over TCP; what arrives must be what was sent.
fn transfer(from: &Namespace, to: (&Namespace, IpAddr), bytes: usize) {
    let (place, address) = to;
    let listener = place.run(|| TcpListener::bind((address, INSIDE))).unwrap().unwrap();
    let payload: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all)
    });
    let connect = || std::net::TcpStream::connect_timeout(&SocketAddr::new(address, INSIDE), PATIENCE);
    let mut stream = from.run(connect).unwrap().unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&payload).unwrap();
    drop(stream);
    assert!(received.join().unwrap().unwrap() == payload, "what arrives is what was sent");
}

/// Sends a datagram; the last of several counts, for one may be lost before neighbours are known.
fn datagram(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr), length: usize) {
    let receiver = to.0.run(|| UdpSocket::bind((to.1, INSIDE))).unwrap().unwrap();
    let sender = from.0.run(|| UdpSocket::bind((from.1, 0))).unwrap().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let payload = vec![7; length];
    within(30.0, "a datagram arrives", || {
        sender.send_to(&payload, (to.1, INSIDE)).map_err(|why| why.to_string())?;
        let mut buffer = vec![0; 65_535];
        let (got, by) = receiver.recv_from(&mut buffer).map_err(|why| why.to_string())?;
        assert_eq!((by.ip(), &buffer[..got]), (from.1, &payload[..]));
        Ok(())
    });
}

/// Has an address answer an echo request.
fn ping(from: &Namespace, to: IpAddr) {
    let (family, protocol, request, reply): (_, _, u8, u8) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let open = || rustix::net::socket(family, SocketType::RAW, Some(protocol as Protocol));
    let socket = from.run(open).unwrap().unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(200))).unwrap();
    // The number and the payload stay the same, so that the checksum is known; for IPv6 the kernel makes it.
    let sum = !(u16::from(request) << 8).wrapping_add(0x4242);
    let [high, low] = sum.to_be_bytes();
    let message = [request, 0, high, low, 0x42, 0x42, 0, 0];
    let to = SocketAddrAny::from(SocketAddr::new(to, 0));
    within(30.0, "the echo request is answered", || {
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &to).map_err(|why| why.to_string())?;
        let mut buffer = [0; 1500];
        let (_, got) =
            rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()).map_err(|why| why.to_string())?;
        let header = if family == AddressFamily::INET { 20 } else { 0 };
        let answered = buffer[header] == reply && buffer[header + 4..header + 6] == [0x42, 0x42] && got > 0;
        if answered { Ok(()) } else { Err(format!("{:x?}", &buffer[..got])) }
    });
}

fn everything_passes(v6: bool) {
    let Some(Pair([a, b])) = Pair::new(v6) else { return };
    for (own, there) in overlay(a.number).into_iter().zip(overlay(b.number)) {
        ping(a.node(), there);
        transfer(a.node(), (b.node(), there), 20 << 20);
        transfer(b.node(), (a.node(), own), 1 << 20);
        // One that fits, one that the sender's kernel cuts into fragments.
        for length in [1, 1400, 20_000] {
            datagram((a.node(), own), (b.node(), there), length);
        }
    }
    assert_eq!((a.dropped(), b.dropped()), (0, 0), "{:?} {:?}", a.counts(), b.counts());
    let (sent, received) = (a.counts(), b.counts());
    assert!(sent.sent_packets > 2 * (20 << 20) / 1500, "large packets are cut: {sent:?}");
    assert!(received.received_packets > 2 * (20 << 20) / 1500, "and joined: {received:?}");
}

#[test]
fn both_families_pass_a_tunnel_over_ipv4() {
    everything_passes(false);
}

#[test]
fn both_families_pass_a_tunnel_over_ipv6() {
    everything_passes(true);
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
    let Some(Pair([a, b])) = Pair::new(false) else { return };
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
    let Some(Pair([a, b])) = Pair::new(false) else { return };
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
    let Some(Pair([mut a, b])) = Pair::new(false) else { return };
    let _echo = Echo::serve(b.node());
    let stream = Stream::open(a.node(), overlay(1)[0]).unwrap();
    let mut second = start(&a.stage);
    assert!(!second.wait().unwrap().success(), "there is one already");
    a.forwarder.kill().and_then(|()| a.forwarder.wait()).unwrap();
    assert!(shell(a.node(), "ip route show dev selvedge-udp | grep -q 10.244.1.0/24"), "routes stay");
    a.forwarder = start(&a.stage);
    a.wait_until_there();
    a.client().set(&forwarding(false, 0)).unwrap();
    let both = |side: &Side| side.counts().sent_packets;
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
