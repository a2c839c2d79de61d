//! Tracked connections, over ctnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use selvedge_ruleset::IpVersion;
use selvedge_wire::flag::DUMP;
use selvedge_wire::{Reader, Request, Socket, Writer};

use crate::error::NftError;
use crate::socket::{self, Received, ask, header, request};

mod flows;

const SUBSYSTEM: u16 = 1 << 8;
/// An entry, as it is listed.
pub(crate) const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATISTICS: u16 = SUBSYSTEM | 5;
/// `CTA_STATS_GLOBAL_ENTRIES`
const STATISTICS_ENTRIES: u16 = 1;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_ORIGINAL_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT`
const FILTER_PORT: u32 = 1 << 3 | 1 << 5;
const UDP: u8 = 17;
/// Which end of a tuple: the flag by which a filter looks at it, and the attributes of an IPv4 and an IPv6 address.
const ENDS: [End; 2] = [End { flag: 1, v4: 1, v6: 3 }, End { flag: 2, v4: 2, v6: 4 }];

struct End {
    flag: u32,
    v4: u16,
    v6: u16,
}

/// Lists and deletes tracked connections of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NftError> {
        let socket = socket::open(&[]).map_err(|errno| NftError::Open { source: errno.into() })?;
        Ok(Self { socket })
    }

    /// Deletes every entry with that address as a source or destination, in either direction, of all protocols.
    ///
    /// Succeeds where connections are not tracked at all.
    pub fn flush_address(&mut self, address: IpAddr) -> Result<(), NftError> {
        let flushed = match (self.count(), address) {
            // Neither nf_conntrack nor its netlink part is in this kernel, or nothing is tracked.
            (Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT) | Ok(0), _) => Ok(()),
            (Err(errno), _) => Err(errno),
            (Ok(_), IpAddr::V4(v4)) => self.flush(v4).or_else(|errno| match errno {
                // Before Linux 6.7 the kernel takes the filter for a broken tuple.
                Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT => self.delete_one_by_one(address),
                errno => Err(errno),
            }),
            // The kernel's filter, up to 6.18 at least, takes every IPv6 address but the one that it was given.
            (Ok(_), IpAddr::V6(_)) => self.delete_one_by_one(address),
        };
        flushed.map_err(|errno| NftError::Conntrack { address, source: errno.into() })
    }

    /// Deletes the UDP entries whose first packet went to a port of an address of which that is true. They would have
    /// later packets go where that one went, whatever rules there are by now.
    ///
    /// Succeeds where connections are not tracked at all.
    pub fn flush_udp_port(
        &mut self,
        version: IpVersion,
        port: u16,
        at: impl Fn(IpAddr) -> bool,
    ) -> Result<(), NftError> {
        let any = match version {
            IpVersion::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpVersion::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let entries = match self.count() {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT) | Ok(0) => Ok(Vec::new()),
            Err(errno) => Err(errno),
            Ok(_) => self.dump_udp_port(any, port),
        };
        let concerned = |entry: &&Received| first_destination(entry.attributes(), port).is_some_and(&at);
        let flushed = entries.and_then(|entries| {
            entries.iter().filter(concerned).try_for_each(|entry| self.delete(entry.attributes(), any))
        });
        flushed.map_err(|errno| NftError::ConntrackPort { port, source: errno.into() })
    }

    /// Entries that may be of UDP and that port; the kernel filters where it can.
    fn dump_udp_port(&mut self, family: IpAddr, port: u16) -> Result<Vec<Received>, Errno> {
        let filtered = message(GET, DUMP, family, |w| {
            w.nest(TUPLE_ORIGINAL, |tuple| {
                tuple.nest(TUPLE_PROTO, |proto| {
                    proto.bytes(PROTO_NUMBER, &[UDP]);
                    proto.bytes(PROTO_DST_PORT, &port.to_be_bytes());
                });
            });
            w.nest(FILTER, |filter| {
                filter.u32_ne(FILTER_ORIGINAL_FLAGS, FILTER_PORT);
                filter.u32_ne(FILTER_REPLY_FLAGS, 0);
            });
        });
        match ask(&mut self.socket, &filtered) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.dump(family),
            answer => answer,
        }
    }

    /// How many connections are tracked in this namespace.
    fn count(&mut self) -> Result<u32, Errno> {
        let answer = ask(&mut self.socket, &request(GET_STATISTICS, 0, 0, |_| {}))?;
        Ok(answer
            .first()
            .and_then(|answer| answer.attributes().u32_be(STATISTICS_ENTRIES))
            .unwrap_or(u32::MAX))
    }

    /// Lets the kernel look for the entries.
    fn flush(&mut self, address: Ipv4Addr) -> Result<(), Errno> {
        for (tuple, flags) in [(TUPLE_ORIGINAL, FILTER_ORIGINAL_FLAGS), (TUPLE_REPLY, FILTER_REPLY_FLAGS)] {
            for end in &ENDS {
                let message = message(DELETE, 0, address.into(), |w| {
                    w.nest(tuple, |tuple| {
                        tuple.nest(TUPLE_IP, |ip| ip.bytes(end.v4, &address.octets()));
                    });
                    // The kernel reads these numbers in its own order, and insists on both.
                    w.nest(FILTER, |filter| {
                        for kind in [FILTER_ORIGINAL_FLAGS, FILTER_REPLY_FLAGS] {
                            let value = if kind == flags { end.flag } else { 0 };
                            filter.u32_ne(kind, value);
                        }
                    });
                });
                ask(&mut self.socket, &message)?;
            }
        }
        Ok(())
    }

    fn delete_one_by_one(&mut self, address: IpAddr) -> Result<(), Errno> {
        let entries = self.dump(address)?;
        for entry in entries.iter().filter(|entry| has_address(entry.attributes(), address)) {
            self.delete(entry.attributes(), address)?;
        }
        Ok(())
    }

    /// Deletes an entry of the family of an address, if it is still there.
    fn delete(&mut self, entry: Reader<'_>, family: IpAddr) -> Result<(), Errno> {
        let message = message(DELETE, 0, family, |w| {
            // The id makes sure that it is this entry that goes, not one that came after it.
            for kind in [TUPLE_ORIGINAL, ZONE, ID] {
                if let Some(value) = entry.get(kind) {
                    w.copy(kind, value, kind == TUPLE_ORIGINAL);
                }
            }
        });
        match ask(&mut self.socket, &message) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// All entries. One that comes while they are listed is of no interest, so the listing need not be of one moment.
    fn dump(&mut self, address: IpAddr) -> Result<Vec<Received>, Errno> {
        ask(&mut self.socket, &message(GET, DUMP, address, |_| {}))
    }
}

fn message(kind: u16, flags: u16, address: IpAddr, write: impl FnOnce(&mut Writer)) -> Request {
    let family = if address.is_ipv4() { 2 } else { 10 };
    // In version 0 the kernel takes no notice of the family when it deletes.
    Request::new(kind, flags, &header(family, 1, 0), write)
}

fn has_address(entry: Reader<'_>, address: IpAddr) -> bool {
    addresses(entry).any(|end| end == address)
}

/// The addresses of an entry, of both its ends in both directions.
pub(crate) fn addresses(entry: Reader<'_>) -> impl Iterator<Item = IpAddr> {
    let tuples = [TUPLE_ORIGINAL, TUPLE_REPLY].into_iter();
    let ips = tuples.filter_map(move |tuple| entry.nest(tuple)?.nest(TUPLE_IP));
    let v4 = |value: &[u8]| <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    let v6 = |value: &[u8]| <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
    let ends = move |ip: Reader<'_>| {
        ENDS.map(|end| ip.get(end.v4).and_then(v4).or_else(|| ip.get(end.v6).and_then(v6)))
    };
    ips.flat_map(ends).flatten()
}

/// Where the first packet of an entry went, if it was one of UDP to that port.
fn first_destination(entry: Reader<'_>, port: u16) -> Option<IpAddr> {
    let tuple = entry.nest(TUPLE_ORIGINAL)?;
    let proto = tuple.nest(TUPLE_PROTO)?;
    if proto.get(PROTO_NUMBER)? != [UDP] || proto.get(PROTO_DST_PORT)? != port.to_be_bytes() {
        return None;
    }
    let [_, destination] = &ENDS;
    let ip = tuple.nest(TUPLE_IP)?;
    if let Some(v4) = ip.get(destination.v4) {
        return Some(IpAddr::from(<[u8; 4]>::try_from(v4).ok()?));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(destination.v6)?).ok()?))
}

#[cfg(test)]
mod tests;
