//! Two nodes that have nothing of Selvedge but a forwarder, the wire between them, and what passes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketType, ipproto, sockopt,
};
use selvedge_forward::{Client, Counts, Task, file};
use selvedge_model::{Forwarding, ForwardingPeer, PublicKey, Wireguard, WireguardPeer};
use selvedge_netns::Namespace;
use selvedge_tests::{Stage, program, within};
use selvedge_wireguard::{SecretKey, key_file};

/// The underlay's port.
pub(super) const PORT: u16 = 8383;
/// A port inside.
pub(super) const INSIDE: u16 = 9000;
/// How long packets may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes on one wire, each with a forwarder.
pub(super) struct Pair<T: Tunnel> {
    pub(super) a: Side<T>,
    pub(super) b: Side<T>,
    /// What both are plugged into: nothing else passes here.
    pub(super) wire: Stage,
}

pub(super) struct Side<T: Tunnel> {
    pub(super) number: usize,
    pub(super) stage: Stage,
    pub(super) forwarder: Child,
    pub(super) told: T,
    _guard: Guard,
}

/// A kind of forwarder, and what it is told in a pair.
pub(super) trait Tunnel: Task {
    /// What the underlay's MTU is less, with IP's header.
    const OVERHEAD: u32;

    /// What the node of that number is told of the other, by their run directories.
    fn told(v6: bool, number: usize, run_dirs: [&Path; 2]) -> Self;
}

impl Tunnel for Forwarding {
    const OVERHEAD: u32 = 8;

    fn told(v6: bool, number: usize, _run_dirs: [&Path; 2]) -> Self {
        forwarding(v6, number)
    }
}

impl Tunnel for Wireguard {
    const OVERHEAD: u32 = 40;

    fn told(v6: bool, number: usize, run_dirs: [&Path; 2]) -> Self {
        let [own, other] = [run_dirs[number], run_dirs[1 - number]].map(key);
        let endpoint = underlay(v6, 1 - number);
        let peers = vec![WireguardPeer { key: other, endpoint, nets: peer(v6, 1 - number).nets }];
        Self { key: own, port: PORT, peers }
    }
}

/// The public key of a run directory, which is made if there is none.
pub(super) fn key(run_dir: &Path) -> PublicKey {
    let path = key_file(run_dir);
    let key = SecretKey::read(&path).unwrap();
    key.unwrap_or_else(|| SecretKey::generate(&path).unwrap()).public()
}

/// Ends forwarders, which are in sessions of their own, when it is dropped and when the test is killed: they end without
/// their locks.
pub(crate) struct Guard(Child);

impl Guard {
    /// Of the forwarders in these run directories.
    pub(crate) fn of<'a>(run_dirs: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut remover = Command::new("setsid");
        remover.args(["sh", "-c", "cat > /dev/null; exec rm -f \"$@\"", "sh"]);
        let locks = |run_dir| [file::<Forwarding>(run_dir, "lock"), file::<Wireguard>(run_dir, "lock")];
        remover.args(run_dirs.into_iter().flat_map(locks));
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
impl<T: Tunnel> Drop for Side<T> {
    fn drop(&mut self) {
        self.forwarder.kill().and_then(|()| self.forwarder.wait()).ok();
    }
}

pub(super) fn underlay(v6: bool, node: usize) -> IpAddr {
    let address = if v6 { format!("fd09::{}", node + 1) } else { format!("192.168.9.{}", node + 1) };
    address.parse().unwrap()
}

/// A node's addresses in the overlay.
pub(super) fn overlay(node: usize) -> [IpAddr; 2] {
    [format!("10.244.{node}.0"), format!("fd00:10:244:{node}::")].map(|address| address.parse().unwrap())
}

pub(super) fn peer(v6: bool, node: usize) -> ForwardingPeer {
    let nets = [format!("10.244.{node}.0/24"), format!("fd00:10:244:{node}::/64")];
    ForwardingPeer { endpoint: underlay(v6, node), nets: nets.map(|net| net.parse().unwrap()).into() }
}

pub(super) fn forwarding(v6: bool, node: usize) -> Forwarding {
    Forwarding { port: PORT, local: underlay(v6, node), peers: vec![peer(v6, 1 - node)] }
}

pub(super) fn start<T: Task>(stage: &Stage) -> Child {
    let mut command = Command::new(program("selvedge-tunnel"));
    command.args([T::NAME, "--run-dir"]).arg(stage.folder()).stdin(Stdio::null());
    stage.node().run(|| command.spawn()).unwrap().unwrap()
}

/// Runs a line of the shell in a node, and says whether it succeeded.
pub(super) fn shell(node: &Namespace, line: &str) -> bool {
    node.run(|| Command::new("sh").args(["-ec", line]).status()).unwrap().unwrap().success()
}

pub(super) fn wait_until_there<T: Task>(stage: &Stage) {
    within(30.0, "the forwarder answers", || match Client::<T>::of(stage.folder()).get() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

impl<T: Tunnel> Side<T> {
    fn new(number: usize, stage: Stage, (v6, told): (bool, T)) -> Self {
        let forwarder = start::<T>(&stage);
        let _guard = Guard::of([stage.folder()]);
        let side = Self { number, stage, forwarder, told, _guard };
        wait_until_there::<T>(&side.stage);
        side.client().set(&side.told).unwrap();
        let [v4_own, v6_own] = overlay(number);
        let there = 1 - number;
        let mtu = 1500 - T::OVERHEAD - if v6 { 40 } else { 20 };
        let device = T::DEVICE;
        let lines = format!(
            "ip link set {device} mtu {mtu} up
             ip address add {v4_own}/32 dev {device}
             ip address add {v6_own}/128 dev {device} nodad
             ip route add 10.244.{there}.0/24 dev {device} src {v4_own}
             ip route add fd00:10:244:{there}::/64 dev {device} src {v6_own}"
        );
        assert!(shell(side.node(), &lines));
        side
    }

    pub(super) fn node(&self) -> &Namespace {
        self.stage.node()
    }

    pub(super) fn client(&self) -> Client<T> {
        Client::of(self.stage.folder())
    }

    pub(super) fn counts(&self) -> Counts {
        self.client().get().unwrap().unwrap().counters
    }

    /// What was dropped for a reason of ours. What the kernel has no room for on a busy machine is sent again.
    pub(super) fn dropped(&self) -> u64 {
        let counts = self.counts();
        let sealed = counts.dropped_sealed + counts.dropped_no_session;
        let wrong = counts.dropped_malformed + counts.dropped_stranger + counts.dropped_source;
        counts.dropped_too_big + wrong + sealed
    }

    pub(super) fn kill(&mut self) {
        self.forwarder.kill().and_then(|()| self.forwarder.wait()).unwrap();
    }

    /// Starts another forwarder and tells it what the one before knew.
    pub(super) fn start_again(&mut self) {
        self.forwarder = start::<T>(&self.stage);
        wait_until_there::<T>(&self.stage);
        self.client().set(&self.told).unwrap();
    }
}

impl<T: Tunnel> Pair<T> {
    pub(super) fn new(v6: bool) -> Option<Self> {
        let (wire, stages) = (Stage::new()?, [Stage::new()?, Stage::new()?]);
        assert!(shell(wire.node(), "ip link add switch type bridge; ip link set switch up"));
        for (number, stage) in stages.iter().enumerate() {
            let enter = format!("/proc/{}/fd/{}", std::process::id(), descriptor(stage.node()));
            let lines = format!(
                "ip link add port{number} type veth peer name wire0 netns {enter} 2>/dev/null
                 ip link set port{number} master switch up"
            );
            assert!(shell(wire.node(), &lines));
            let lines = format!(
                "ip link set lo up; ip link set wire0 up
                 ip address add {}/24 dev wire0; ip address add {}/64 dev wire0 nodad",
                underlay(false, number),
                underlay(true, number)
            );
            assert!(shell(stage.node(), &lines));
        }
        let told = [0, 1].map(|number| T::told(v6, number, [stages[0].folder(), stages[1].folder()]));
        let ([a, b], [for_a, for_b]) = (stages, told);
        Some(Self { a: Side::new(0, a, (v6, for_a)), b: Side::new(1, b, (v6, for_b)), wire })
    }
}

fn descriptor(node: &Namespace) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    node.as_fd().as_raw_fd()
}

/// Sends that much over TCP; what arrives must be what was sent.
pub(super) fn transfer(from: &Namespace, to: (&Namespace, IpAddr), bytes: usize) {
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
pub(super) fn datagram(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr), length: usize) {
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
pub(super) fn ping(from: &Namespace, to: IpAddr) {
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

/// Everything that should pass between two nodes does, and nothing is dropped.
pub(super) fn everything_passes<T: Tunnel>(v6: bool) {
    let Some(Pair { a, b, wire: _wire }) = Pair::<T>::new(v6) else { return };
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
