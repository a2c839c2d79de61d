//! Messages of the generic netlink family `wireguard` (linux/wireguard.h), written and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use selvedge_model::PublicKey;
use selvedge_wire::{Reader, Request, Writer, flag, u16_at, u32_at};

use crate::change::{Changes, PeerChange};
use crate::device::Device;

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY and its attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE.
const GET: u8 = 0;
const SET: u8 = 1;

/// WGDEVICE_A_…
mod of_device {
    pub(super) const INDEX: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const PRIVATE_KEY: u16 = 3;
    pub(super) const PUBLIC_KEY: u16 = 4;
    pub(super) const LISTEN_PORT: u16 = 6;
    pub(super) const PEERS: u16 = 8;
}

/// WGPEER_A_…
mod of_peer {
    pub(super) const PUBLIC_KEY: u16 = 1;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const ENDPOINT: u16 = 4;
    pub(super) const ALLOWED_IPS: u16 = 9;
}

/// WGALLOWEDIP_A_…
mod of_net {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const ADDRESS: u16 = 2;
    pub(super) const PREFIX: u16 = 3;
}

/// WGPEER_F_REMOVE_ME.
const REMOVE: u32 = 1;
/// WGPEER_F_REPLACE_ALLOWEDIPS.
const REPLACE_NETS: u32 = 2;

/// AF_INET and AF_INET6.
const V4: u16 = 2;
const V6: u16 = 10;

/// The most bytes of peers in one message. An attribute, in which they all are, holds 64 KiB.
const BATCH: usize = 16 << 10;
/// The most nets in one entry of a peer; more come in further entries.
const NETS: usize = 256;
/// Length of `struct genlmsghdr`.
const HEADER: usize = 4;

/// Asks which number the family `wireguard` has.
pub(crate) fn get_family() -> Request {
    Request::new(CONTROL, 0, &[GET_FAMILY, 1, 0, 0], |w| w.text(FAMILY_NAME, "wireguard"))
}

/// The number in the answer.
pub(crate) fn family(payload: &[u8]) -> Option<u16> {
    u16_at(attributes(payload).get(FAMILY_ID)?, 0)
}

/// Asks what a device holds.
pub(crate) fn get(family: u16, device: &str) -> Request {
    Request::new(family, flag::DUMP, &[GET, 1, 0, 0], |w| w.text(of_device::NAME, device))
}

/// Takes a part of the answer. What a part says of a peer goes on in the next.
pub(crate) fn read(payload: &[u8], device: &mut Device) {
    let attributes = attributes(payload);
    if let Some(index) = attributes.get(of_device::INDEX).and_then(|value| u32_at(value, 0)) {
        device.index = index;
    }
    if let Some(key) = attributes.get(of_device::PUBLIC_KEY).and_then(key) {
        device.key = Some(key);
    }
    if let Some(port) = attributes.get(of_device::LISTEN_PORT).and_then(|value| u16_at(value, 0)) {
        device.port = port;
    }
    for (_, peer) in attributes.nest(of_device::PEERS).into_iter().flatten() {
        let peer = Reader(peer);
        let Some(key) = peer.get(of_peer::PUBLIC_KEY).and_then(key) else { continue };
        let there = device.peers.entry(key).or_default();
        there.endpoint = peer.get(of_peer::ENDPOINT).and_then(endpoint).or(there.endpoint);
        let nets = peer.nest(of_peer::ALLOWED_IPS).into_iter().flatten();
        there.nets.extend(nets.filter_map(|(_, found)| net(Reader(found))));
    }
}

/// The requests that make changes, in order; none where there is nothing to change.
pub(crate) fn set((family, device): (u16, &str), changes: &Changes, secret: &[u8; 32]) -> Vec<Request> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut batches = vec![Vec::new()];
    for entry in changes.peers.iter().flat_map(entries) {
        match batches.last_mut() {
            Some(last) if last.len() + entry.len() <= BATCH => last.extend(entry),
            _ => batches.push(entry),
        }
    }
    let request = |(number, peers): (usize, Vec<u8>)| {
        Request::new(family, 0, &[SET, 1, 0, 0], |w| {
            w.text(of_device::NAME, device);
            if number == 0 && changes.key {
                w.bytes(of_device::PRIVATE_KEY, secret);
            }
            if number == 0
                && let Some(port) = changes.port
            {
                w.bytes(of_device::LISTEN_PORT, &port.to_ne_bytes());
            }
            if !peers.is_empty() {
                w.copy(of_device::PEERS, &peers, true);
            }
        })
    };
    batches.into_iter().enumerate().map(request).collect()
}

/// The entries that change one peer, each an attribute of its own.
fn entries(change: &PeerChange) -> Vec<Vec<u8>> {
    let entry = |write: &dyn Fn(&mut Writer)| Writer::of(|w| w.nest(0, |w| write(w)));
    match change {
        PeerChange::Remove(key) => vec![entry(&|w| {
            w.bytes(of_peer::PUBLIC_KEY, &key.0);
            w.u32_ne(of_peer::FLAGS, REMOVE);
        })],
        PeerChange::Set { key, endpoint, nets } => {
            let parts = nets.iter().flat_map(|nets| nets.chunks(NETS));
            let mut entries = vec![entry(&|w| {
                w.bytes(of_peer::PUBLIC_KEY, &key.0);
                if nets.is_some() {
                    w.u32_ne(of_peer::FLAGS, REPLACE_NETS);
                }
                if let Some(endpoint) = endpoint {
                    w.bytes(of_peer::ENDPOINT, &socket_address(*endpoint));
                }
                write_nets(w, parts.clone().next().unwrap_or_default());
            })];
            entries.extend(parts.skip(1).map(|part| {
                entry(&|w| {
                    w.bytes(of_peer::PUBLIC_KEY, &key.0);
                    write_nets(w, part);
                })
            }));
            entries
        }
    }
}

fn write_nets(w: &mut Writer, nets: &[IpNet]) {
    if nets.is_empty() {
        return;
    }
    w.nest(of_peer::ALLOWED_IPS, |w| {
        for net in nets {
            w.nest(0, |w| {
                let family = if net.addr().is_ipv4() { V4 } else { V6 };
                w.bytes(of_net::FAMILY, &family.to_ne_bytes());
                w.ip(of_net::ADDRESS, net.addr());
                w.bytes(of_net::PREFIX, &[net.prefix_len()]);
            });
        }
    });
}

fn attributes(payload: &[u8]) -> Reader<'_> {
    Reader(payload.get(HEADER..).unwrap_or_default())
}

fn key(value: &[u8]) -> Option<PublicKey> {
    value.try_into().ok().map(PublicKey)
}

fn net(found: Reader<'_>) -> Option<IpNet> {
    let address = found.get(of_net::ADDRESS)?;
    let address: IpAddr = match u16_at(found.get(of_net::FAMILY)?, 0)? {
        V4 => Ipv4Addr::from(*address.first_chunk::<4>()?).into(),
        V6 => Ipv6Addr::from(*address.first_chunk::<16>()?).into(),
        _ => return None,
    };
    IpNet::new(address, *found.get(of_net::PREFIX)?.first()?).ok()
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(at: SocketAddr) -> Vec<u8> {
    let port = at.port().to_be_bytes();
    match at.ip() {
        IpAddr::V4(v4) => [&V4.to_ne_bytes()[..], &port, &v4.octets(), &[0; 8]].concat(),
        IpAddr::V6(v6) => [&V6.to_ne_bytes()[..], &port, &[0; 4], &v6.octets(), &[0; 4]].concat(),
    }
}

fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*value.get(2..)?.first_chunk()?);
    let address: IpAddr = match u16_at(value, 0)? {
        V4 => Ipv4Addr::from(*value.get(4..)?.first_chunk::<4>()?).into(),
        V6 => Ipv6Addr::from(*value.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests;
