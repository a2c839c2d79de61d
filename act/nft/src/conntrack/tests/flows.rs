//! Listing, and deleting what was listed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
use selvedge_model::Tracked;
use selvedge_model::tracked::{Detail, Tuple};

use super::*;

/// A reply that is the original the other way round: nothing is rewritten.
fn turned(tuple: &Tuple) -> Tuple {
    let detail = match tuple.detail {
        Detail::Ports { source, destination } => Detail::Ports { source: destination, destination: source },
        other => other,
    };
    Tuple { source: tuple.destination, destination: tuple.source, detail }
}

/// Sends an echo request.
fn echo(family: AddressFamily, to: IpAddr, request: &[u8]) {
    let protocol = if family == AddressFamily::INET { ipproto::ICMP } else { ipproto::ICMPV6 };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap();
    rustix::net::sendto(&socket, request, SendFlags::empty(), &SocketAddr::new(to, 0)).unwrap();
}

#[test]
fn everything_that_is_tracked_is_listed_and_what_is_given_is_deleted() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        track(&sample());
        let [v4, v6] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let listener = TcpListener::bind((v6, 0)).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut accepted = listener.accept().unwrap().0;
        echo(AddressFamily::INET, v4, &[8, 0, 0xf7, 0xf7, 0, 7, 0, 1]);
        // The kernel fills in this one's checksum.
        echo(AddressFamily::INET6, v6, &[128, 0, 0, 0, 0, 7, 0, 1]);
        let mut conntrack = Conntrack::open().unwrap();
        let mut of = |protocol: u8, address: IpAddr| {
            let is_it = |flow: &Tracked| flow.protocol == protocol && flow.original.source == address;
            conntrack.flows(is_it).unwrap()
        };
        assert_eq!((of(17, sample()[0]).len(), of(17, sample()[3]).len()), (3, 3));
        assert_eq!(of(17, sample()[3])[0].reply.ports().map(|(source, _)| source), Some(9));
        let ports = (stream.local_addr().unwrap().port(), listener.local_addr().unwrap().port());
        assert_eq!(of(6, v6)[0].original.ports(), Some(ports));
        assert_eq!(of(6, v6)[0].reply, turned(&of(6, v6)[0].original));
        for (protocol, address, query, answer) in [(1, v4, 8, 0), (58, v6, 128, 129)] {
            let pings = of(protocol, address);
            let [ping] = &pings[..] else { panic!("{pings:?}") };
            let kinds = [ping.original, ping.reply].map(|tuple| match tuple.detail {
                Detail::Icmp { id: 7, kind, code: 0 } => kind,
                other => panic!("{other:?}"),
            });
            assert_eq!(kinds, [query, answer]);
        }
        // One goes, whatever it speaks, and all others stay.
        let mut all = conntrack.flows(|_| true).unwrap();
        all.sort();
        while let Some(last) = all.pop() {
            conntrack.forget(&[last]).unwrap();
            let mut left = conntrack.flows(|_| true).unwrap();
            left.sort();
            assert_eq!(left, all, "{last:?} alone was to go");
        }
        // It is no error if they are gone, and the connection starts a new entry.
        stream.write_all(b"x").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        let again = conntrack.flows(|_| true).unwrap();
        assert_eq!(again.len(), 1);
        conntrack.forget(&[Tracked { id: again[0].id ^ 1, ..again[0] }]).unwrap();
        assert_eq!(conntrack.flows(|_| true).unwrap().len(), 1, "it has another number");
        conntrack.forget(&[again[0], again[0]]).unwrap();
        assert_eq!(conntrack.flows(|_| true).unwrap().len(), 0);
    });
}

#[test]
fn thousands_are_listed_and_deleted_together() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        track(&[]);
        let sockets = (0..20).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect::<Vec<_>>();
        let count = flow_count();
        for (number, socket) in (0..count).zip(sockets.iter().cycle()) {
            let to = SocketAddr::from(([127, 0, 0, 2], u16::try_from(1000 + number / 20).unwrap()));
            // An error about an earlier one may be waiting; it isn't about this.
            assert!((0..100).any(|_| socket.send_to(b"x", to).is_ok()), "{to} can't be sent to");
        }
        let mut conntrack = Conntrack::open().unwrap();
        let began = Instant::now();
        let all = conntrack.flows(|_| true).unwrap();
        let listed = began.elapsed();
        assert!(all.len() >= count, "{} of {count}", all.len());
        let began = Instant::now();
        conntrack.forget(&all).unwrap();
        println!("{} entries listed in {listed:?}, deleted in {:?}", all.len(), began.elapsed());
        assert_eq!(conntrack.flows(|_| true).unwrap().len(), 0);
    });
}

/// Ten thousand, or as many as SELVEDGE_FLOWS says.
fn flow_count() -> usize {
    std::env::var("SELVEDGE_FLOWS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

#[test]
fn where_nothing_is_tracked_there_is_nothing() {
    in_namespace(|| {
        let mut conntrack = Conntrack::open().unwrap();
        assert_eq!(conntrack.flows(|_| true).unwrap(), []);
        conntrack.forget(&[]).unwrap();
    });
}
