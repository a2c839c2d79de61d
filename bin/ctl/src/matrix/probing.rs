//! Packets from pods to pods, out of the pods' own network namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use selvedge_explain::Matrix;
use selvedge_netns::{Namespace, NetnsError};

use super::Measured;
use crate::kubectl::each;

/// Where runtimes keep network namespaces by name.
const KEPT: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// How long a connection is waited for: its first packet is sent three times until then.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often an echo is asked for, and how long each is waited for.
const ECHOES: u32 = 5;
const ECHO: Duration = Duration::from_secs(1);

/// What packets do between the pods of a matrix, as far as their namespaces are found.
pub(super) fn measure(matrix: &Matrix, port: Option<u16>) -> Result<Measured, NetnsError> {
    let namespaces = namespaces(matrix)?;
    let rows: Vec<usize> = (0..matrix.pods.len()).collect();
    let of_row = |at: &usize| {
        let targets: Vec<Option<IpAddr>> = matrix.rows[*at].iter().map(|cell| cell.address).collect();
        match namespaces.get(at) {
            None => Ok(vec![None; targets.len()]),
            Some(namespace) => namespace.run(|| all(&targets, port)),
        }
    };
    each(&rows, of_row).into_iter().collect()
}

/// Tries each at once, from the namespace of the calling thread.
fn all(targets: &[Option<IpAddr>], port: Option<u16>) -> Vec<Option<bool>> {
    let reach = |target: IpAddr| match port {
        Some(port) => Some(connects(SocketAddr::new(target, port))),
        // Without a socket nothing was tried.
        None => echoes(target).ok(),
    };
    thread::scope(|scope| {
        let tried: Vec<_> =
            targets.iter().map(|target| target.map(|target| scope.spawn(move || reach(target)))).collect();
        tried.into_iter().map(|tried| tried.and_then(|tried| tried.join().ok().flatten())).collect()
    })
}

/// The namespaces of the matrix's pods, by their places in it.
fn namespaces(matrix: &Matrix) -> Result<BTreeMap<usize, Namespace>, NetnsError> {
    let own = Namespace::current()?.identity();
    let mut found = BTreeMap::new();
    let mut known = BTreeMap::from([(own, ())]);
    for path in candidates() {
        // It may have gone, and what is kept there may be something else.
        let Ok(namespace) = Namespace::open(&path) else { continue };
        if known.insert(namespace.identity(), ()).is_some() {
            continue;
        }
        let missing: Vec<usize> = (0..matrix.pods.len()).filter(|at| !found.contains_key(at)).collect();
        let has = |at: &usize| matrix.pods[*at].addresses.iter().any(|address| is_own(*address));
        let whose = namespace.run(|| missing.into_iter().find(has))?;
        found.extend(whose.map(|at| (at, namespace)));
    }
    Ok(found)
}

/// Where a pod's namespace may be: kept by name, or that of a process.
fn candidates() -> Vec<PathBuf> {
    let entries = |directory: &Path| -> Vec<PathBuf> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let kept = KEPT.iter().flat_map(|directory| entries(Path::new(directory)));
    let numbered = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    let processes = entries(Path::new("/proc")).into_iter().filter(numbered);
    kept.chain(processes.map(|process| process.join("ns/net"))).collect()
}

/// True if the calling thread's namespace has the address.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// True if a connection is taken, or refused by whom it is for.
fn connects(target: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&target, PATIENCE) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
    }
}

/// True if an echo is answered.
fn echoes(target: IpAddr) -> io::Result<bool> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let (family, protocol, request, reply) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    for sequence in 0..ECHOES {
        let number = ASKED.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() << 12);
        let [a, b, c, d] = number.to_be_bytes();
        let mut message =
            vec![request, 0, 0, 0, c, d, 0, u8::try_from(sequence).unwrap_or_default(), a, b, c, d];
        if target.is_ipv4() {
            let sum = checksum(&message).to_be_bytes();
            message.splice(2..4, sum);
        }
        // What a rule of this namespace's node rejects may be told here: it didn't arrive.
        if rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddr::new(target, 0)).is_err() {
            continue;
        }
        let until = Instant::now() + ECHO;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
            let mut buffer = [MaybeUninit::uninit(); 256];
            let Ok(((packet, _), _, from)) = rustix::net::recvfrom(&socket, &mut buffer, RecvFlags::empty())
            else {
                continue;
            };
            let from = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
            if from == Some(target) && is_answer(packet, target.is_ipv4(), reply, &message) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether what came in answers a message; of IPv4 its header comes as well.
fn is_answer(packet: &[u8], v4: bool, reply: u8, message: &[u8]) -> bool {
    let header = match (v4, packet.first()) {
        (true, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let answer = packet.get(header..).unwrap_or_default();
    answer.first() == Some(&reply) && answer.get(4..) == message.get(4..)
}

/// The internet checksum (RFC 1071) of a message of even length whose checksum field is zero.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks_exact(2).filter_map(|pair| pair.first_chunk::<2>());
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!(folded + (folded >> 16))).to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_has_what_was_asked() {
        let mut message = vec![8, 0, 0, 0, 1, 2, 0, 3, 9, 9, 9, 9];
        let sum = checksum(&message).to_be_bytes();
        message.splice(2..4, sum);
        assert_eq!(checksum(&message), 0);
        let answer = [&[0x45; 20][..], &[0, 0, 7, 7], &message[4..]].concat();
        assert!(is_answer(&answer, true, 0, &message));
        assert!(!is_answer(&answer[..answer.len() - 1], true, 0, &message));
        assert!(!is_answer(&message, false, 129, &message), "the question is no answer");
    }

    #[test]
    fn a_connection_that_is_taken_or_refused_has_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert!(connects(at));
        drop(listener);
        assert!(connects(at));
        assert!(is_own([127, 0, 0, 1].into()) && !is_own([192, 0, 2, 7].into()));
    }
}
