//! All that is tracked, as values, and entries deleted by what they are.

use std::net::IpAddr;

use rustix::io::Errno;
use selvedge_model::Tracked;
use selvedge_model::tracked::{Detail, Tuple};
use selvedge_wire::flag::DUMP;
use selvedge_wire::{Message, Reader, Request, Writer};

use super::{
    Conntrack, DELETE, ENDS, GET, ID, PROTO_DST_PORT, PROTO_NUMBER, TUPLE_IP, TUPLE_ORIGINAL, TUPLE_PROTO,
    TUPLE_REPLY, ZONE, message,
};
use crate::error::NftError;
use crate::socket::{HEADER, failures, request};

const PROTO_SRC_PORT: u16 = 2;
/// The attributes of an ICMP and an ICMPv6 query's identifier; its type and its code follow.
const PROTO_ICMP_ID: [u16; 2] = [4, 7];

/// Entries that are deleted by one datagram.
const TOGETHER: usize = 256;

impl Conntrack {
    /// The entries of which that is true, of all families and protocols. What comes or goes meanwhile may be among them.
    ///
    /// Where connections are not tracked at all there are none.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn flows(&mut self, keep: impl Fn(&Tracked) -> bool) -> Result<Vec<Tracked>, NftError> {
        let mut flows = Vec::new();
        // There can be a hundred thousand: each is read where it was received.
        let entry = |payload: &[u8]| payload.get(HEADER..).and_then(|entry| read(Reader(entry)));
        let take = |message: &Message<'_>| flows.extend(entry(message.payload).filter(&keep));
        match self.socket.ask(&request(GET, DUMP, 0, |_| {}), take).map_err(Errno::from) {
            // Neither nf_conntrack nor its netlink part is in this kernel.
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT) => Ok(flows),
            Err(errno) => Err(NftError::Flows { source: errno.into() }),
        }
    }

    /// Deletes these entries, those that are still there; what has come after one of them stays.
    ///
    /// # Errors
    /// What the kernel said; some may be gone.
    pub fn forget(&mut self, flows: &[Tracked]) -> Result<(), NftError> {
        for together in flows.chunks(TOGETHER) {
            self.forget_together(together).map_err(|errno| NftError::Forget { source: errno.into() })?;
        }
        Ok(())
    }

    fn forget_together(&mut self, flows: &[Tracked]) -> Result<(), Errno> {
        let mut datagram = Vec::new();
        for flow in flows {
            deletion(flow).write(self.socket.next_sequence(), 0, &mut datagram);
        }
        self.socket.send(&datagram)?;
        // The kernel has handled them all when send returns.
        let failed = failures(&mut self.socket)?;
        failed.into_iter().map(|(_, errno)| errno).find(|errno| *errno != Errno::NOENT).map_or(Ok(()), Err)
    }
}

fn deletion(flow: &Tracked) -> Request {
    message(DELETE, 0, flow.original.source, |w| {
        w.nest(TUPLE_ORIGINAL, |tuple| write_tuple(flow.protocol, &flow.original, tuple));
        if flow.zone != 0 {
            w.bytes(ZONE, &flow.zone.to_be_bytes());
        }
        w.u32_be(ID, flow.id);
    })
}

fn write_tuple(protocol: u8, tuple: &Tuple, w: &mut Writer) {
    let is_v4 = tuple.source.is_ipv4();
    w.nest(TUPLE_IP, |ip| {
        for (end, address) in ENDS.iter().zip([tuple.source, tuple.destination]) {
            ip.ip(if is_v4 { end.v4 } else { end.v6 }, address);
        }
    });
    w.nest(TUPLE_PROTO, |proto| {
        proto.bytes(PROTO_NUMBER, &[protocol]);
        match tuple.detail {
            Detail::Ports { source, destination } => {
                proto.bytes(PROTO_SRC_PORT, &source.to_be_bytes());
                proto.bytes(PROTO_DST_PORT, &destination.to_be_bytes());
            }
            Detail::Icmp { id, kind, code } => {
                let first = PROTO_ICMP_ID[usize::from(!is_v4)];
                proto.bytes(first, &id.to_be_bytes());
                proto.bytes(first + 1, &[kind]);
                proto.bytes(first + 2, &[code]);
            }
            Detail::Nothing => {}
        }
    });
}

/// An entry; `None` if it lacks what every entry has.
fn read(entry: Reader<'_>) -> Option<Tracked> {
    let (protocol, original) = read_tuple(entry.nest(TUPLE_ORIGINAL)?)?;
    let (_, reply) = read_tuple(entry.nest(TUPLE_REPLY)?)?;
    let zone = entry.get(ZONE).and_then(number).unwrap_or(0);
    Some(Tracked { protocol, original, reply, zone, id: entry.u32_be(ID)? })
}

fn read_tuple(tuple: Reader<'_>) -> Option<(u8, Tuple)> {
    let ip = tuple.nest(TUPLE_IP)?;
    let proto = tuple.nest(TUPLE_PROTO)?;
    let [source, destination] = ENDS.map(|end| address(ip, end.v4, end.v6));
    let port = |kind| proto.get(kind).and_then(number);
    let icmp = |id: u16| {
        let [kind, code] = [1, 2].map(|next| byte(proto, id + next));
        Some(Detail::Icmp { id: port(id)?, kind: kind?, code: code? })
    };
    let ports = || Some(Detail::Ports { source: port(PROTO_SRC_PORT)?, destination: port(PROTO_DST_PORT)? });
    let detail = ports().or_else(|| PROTO_ICMP_ID.into_iter().find_map(icmp)).unwrap_or(Detail::Nothing);
    Some((byte(proto, PROTO_NUMBER)?, Tuple { source: source?, destination: destination?, detail }))
}

fn address(ip: Reader<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    match ip.get(v4) {
        Some(v4) => Some(<[u8; 4]>::try_from(v4).ok()?.into()),
        None => Some(<[u8; 16]>::try_from(ip.get(v6)?).ok()?.into()),
    }
}

fn number(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.try_into().ok()?))
}

fn byte(proto: Reader<'_>, kind: u16) -> Option<u8> {
    match proto.get(kind)? {
        [byte] => Some(*byte),
        _ => None,
    }
}
