//! From the device to the nodes.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};

use rustix::net::SocketAddrAny;
use selvedge_packet::{Cut, Ends, Offload};

use crate::device::Queue;
use crate::error::ForwardError;
use crate::shared::{Shared, View};
use crate::socket::Socket;

/// The longest packet, with the device's header.
const BUFFER: usize = Offload::LENGTH + 65_535;
/// How many segments a kernel sends at once (UDP_MAX_SEGMENTS, before 6.9).
const SEGMENTS: usize = 64;
/// How many bytes a UDP packet has room for, over IPv4 and IPv6.
const PAYLOAD: usize = 65_535 - 20 - 8;

/// Sends what a queue of the device has, until the device is gone.
pub(crate) fn forward(shared: &Shared, index: usize, device: &str) -> ForwardError {
    let Some(queue) = shared.queues.get(index) else {
        return ForwardError::Gone { name: device.to_owned() };
    };
    let mut outward = Outward { shared, index, headers: Vec::new() };
    let mut view = View::new(shared);
    let mut buffer = vec![0; BUFFER];
    loop {
        match next(queue, &mut buffer) {
            Ok(Some(length)) => outward.packet(&mut view, &mut buffer[..length]),
            Ok(None) => return ForwardError::Gone { name: device.to_owned() },
            Err(source) => return ForwardError::Device { name: device.to_owned(), source },
        }
    }
}

/// The next packet; a signal is no end.
fn next(queue: &Queue, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match queue.read(buffer) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A thread's own.
struct Outward<'a> {
    shared: &'a Shared,
    index: usize,
    /// Room for the headers of parts.
    headers: Vec<u8>,
}

impl Outward<'_> {
    fn packet(&mut self, view: &mut View<'_>, bytes: &mut [u8]) {
        let counters = &self.shared.counters;
        let Some((offload, packet)) = bytes.split_first_chunk_mut() else {
            return counters.dropped_malformed.add(1);
        };
        let (Some(offload), Some(ends)) = (Offload::read(offload), Ends::of(packet)) else {
            return counters.dropped_malformed.add(1);
        };
        let active = view.now();
        let found = active.and_then(|active| {
            Some((
                active.peers.endpoint(ends.destination)?,
                active.sockets.get(self.index)?,
                active.told.port,
            ))
        });
        let Some((endpoint, socket, port)) = found else { return counters.dropped_no_peer.add(1) };
        match Cut::of(packet, &offload, &mut self.headers) {
            Ok(cut) => self.send(socket, (endpoint, port), (&cut, packet)),
            Err(_malformed) => counters.dropped_malformed.add(1),
        }
    }

    /// Sends the parts of a packet, as many at once as can be.
    fn send(&self, socket: &Socket, (endpoint, port): (IpAddr, u16), (cut, packet): (&Cut, &[u8])) {
        let to = SocketAddrAny::from(SocketAddr::new(endpoint, port));
        let at_once = (PAYLOAD / cut.part().max(1)).clamp(1, SEGMENTS);
        let mut start = 0;
        while start < cut.count() {
            let end = (start + at_once).min(cut.count());
            let mut parts = Vec::with_capacity(2 * (end - start));
            for index in start..end {
                let (header, payload) = cut.place(index);
                parts.push(IoSlice::new(&self.headers[header]));
                parts.push(IoSlice::new(&packet[payload]));
            }
            let segment = if end - start > 1 { u16::try_from(cut.part()).ok() } else { None };
            match socket.send(&parts, segment, &to) {
                Ok(()) => self.sent(&parts),
                // Where the device below has no checksums (EIO), or the kernel no segments (EINVAL).
                Err(why) if segment.is_some() && is_about_segments(&why) => {
                    for part in parts.chunks(2) {
                        self.outcome(socket.send(part, None, &to), part);
                    }
                }
                failed => self.outcome(failed, &parts),
            }
            start = end;
        }
    }

    fn outcome(&self, outcome: io::Result<()>, parts: &[IoSlice<'_>]) {
        let counters = &self.shared.counters;
        match outcome {
            Ok(()) => self.sent(parts),
            Err(why) if why.raw_os_error() == Some(libc::EMSGSIZE) => {
                counters.dropped_too_big.add(parts.len() / 2);
            }
            Err(_refused) => counters.dropped_not_sent.add(parts.len() / 2),
        }
    }

    /// A header and a payload are a packet.
    fn sent(&self, parts: &[IoSlice<'_>]) {
        self.shared.counters.sent_packets.add(parts.len() / 2);
        self.shared.counters.sent_bytes.add(parts.iter().map(|part| part.len()).sum());
    }
}

fn is_about_segments(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}
