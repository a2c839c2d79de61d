//! Tunnel devices, and who is where behind them.

use std::net::IpAddr;
use std::os::fd::AsFd;

use selvedge_datapath::announced::{Announced, Object};
use selvedge_datapath::state::{FdbEntry, LinkKind, Neighbour, ObservedNetwork, Vxlan};
use selvedge_model::{IfName, MacAddr, Mtu, mark};
use selvedge_wire::{Reader, Request, Writer, u16_at, u32_at};

use crate::error::{NetlinkError, Refusal};
use crate::offload;
use crate::record::ip;
use crate::request::{self, CREATE, DUMP, EXCL, REPLACE, link, write_kind};
use crate::socket::RouteSocket;

/// IFLA_VXLAN_ID.
const ID: u16 = 1;
/// IFLA_VXLAN_LOCAL.
const LOCAL: u16 = 4;
/// IFLA_VXLAN_LEARNING.
const LEARNING: u16 = 7;
/// IFLA_VXLAN_PORT.
const PORT: u16 = 15;
/// IFLA_VXLAN_LOCAL6.
const LOCAL6: u16 = 17;
/// IFLA_VXLAN_DF (Linux 4.20).
const DONT_FRAGMENT: u16 = 29;
/// VXLAN_DF_INHERIT: what must not be fragmented inside is not outside either, so that paths can be measured.
const AS_INSIDE: u8 = 2;

/// No link can have so many queues.
const TOO_MANY: u32 = 1 << 16;

/// NDA_DST.
const DESTINATION: u16 = 1;
/// NDA_LLADDR.
const MAC: u16 = 2;
/// NDA_PORT, where it isn't the device's own.
const OTHER_PORT: u16 = 6;
/// NDA_VNI, where it isn't the device's own.
const OTHER_VNI: u16 = 7;
/// NDA_IFINDEX.
const ONLY_OF: u16 = 8;
/// NDA_PROTOCOL.
const PROTOCOL: u16 = 12;
/// NUD_PERMANENT.
const PERMANENT: u16 = 0x80;
/// NTF_SELF: the device's own entry, not its bridge's.
const SELF: u8 = 2;
/// PF_BRIDGE.
const BRIDGE: u8 = 7;
/// Length of `struct ndmsg`.
const HEADER: usize = 12;

/// Makes a VXLAN device, unless its name is taken; the kernel takes its alias only once it is there.
pub(crate) fn create_vxlan(
    name: &IfName,
    (mac, mtu): (MacAddr, Mtu),
    alias: &str,
    vxlan: &Vxlan,
) -> [Request; 2] {
    let make = link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |w| {
        w.text(libc::IFLA_IFNAME, name.as_str());
        w.bytes(libc::IFLA_ADDRESS, &mac.0);
        w.u32_ne(libc::IFLA_MTU, mtu.bytes());
        write_kind(w, "vxlan", |data| {
            data.u32_ne(ID, vxlan.vni);
            data.bytes(PORT, &vxlan.port.to_be_bytes());
            // Where the underlay has too little for IPv6 inside, it has to fragment.
            if mtu > Mtu::LEAST {
                data.bytes(DONT_FRAGMENT, &[AS_INSIDE]);
            }
            write_changeable(data, vxlan);
        });
    });
    let set = link(libc::RTM_NEWLINK, 0, 0, |w| {
        w.text(libc::IFLA_IFNAME, name.as_str());
        w.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    });
    [make, set]
}

/// Sets what can be set of a device that is there.
pub(crate) fn change_vxlan(index: u32, vxlan: &Vxlan) -> Request {
    link(libc::RTM_NEWLINK, 0, index, |w| write_kind(w, "vxlan", |data| write_changeable(data, vxlan)))
}

fn write_changeable(data: &mut Writer, vxlan: &Vxlan) {
    data.ip(if vxlan.local.is_ipv4() { LOCAL } else { LOCAL6 }, vxlan.local);
    data.bytes(LEARNING, &[u8::from(vxlan.learning)]);
}

/// Reads IFLA_INFO_DATA of a VXLAN device. One that has no address to send from can't be ours.
pub(crate) fn vxlan(data: &[u8]) -> Option<Vxlan> {
    let data = Reader(data);
    let local = |attribute, family| data.get(attribute).and_then(|value| ip(family, value));
    let [v4, v6] = request::FAMILIES;
    Some(Vxlan {
        vni: u32_at(data.get(ID)?, 0)?,
        port: u16::from_be_bytes(data.get(PORT)?.try_into().ok()?),
        local: local(LOCAL, v4).or_else(|| local(LOCAL6, v6))?,
        learning: data.get(LEARNING)? != [0],
    })
}

pub(crate) fn set_fdb(device: u32, entry: &FdbEntry) -> Request {
    about_fdb(libc::RTM_NEWNEIGH, CREATE | REPLACE, device, entry)
}

pub(crate) fn delete_fdb(device: u32, entry: &FdbEntry) -> Request {
    about_fdb(libc::RTM_DELNEIGH, 0, device, entry)
}

fn about_fdb(kind: u16, flags: u16, device: u32, entry: &FdbEntry) -> Request {
    Request::new(kind, flags, &header(BRIDGE, device, PERMANENT, SELF), |w| {
        w.bytes(MAC, &entry.mac.0);
        w.ip(DESTINATION, entry.remote);
    })
}

pub(crate) fn set_neighbour(device: u32, neighbour: &Neighbour) -> Request {
    about_neighbour(libc::RTM_NEWNEIGH, CREATE | REPLACE, device, neighbour)
}

pub(crate) fn delete_neighbour(device: u32, neighbour: &Neighbour) -> Request {
    about_neighbour(libc::RTM_DELNEIGH, 0, device, neighbour)
}

fn about_neighbour(kind: u16, flags: u16, device: u32, neighbour: &Neighbour) -> Request {
    let family = request::family(neighbour.address);
    Request::new(kind, flags, &header(family, device, PERMANENT, 0), |w| {
        w.ip(DESTINATION, neighbour.address);
        w.bytes(MAC, &neighbour.mac.0);
        w.bytes(PROTOCOL, &[mark::ROUTE_PROTOCOL]);
    })
}

/// `struct ndmsg`: the family, the device, the entry's state and flags.
fn header(family: u8, device: u32, state: u16, flags: u8) -> Vec<u8> {
    let [low, high] = state.to_ne_bytes();
    [[family, 0, 0, 0], device.to_ne_bytes(), [low, high, flags, 0]].concat()
}

/// Asks for the forwarding entries of a device.
fn list_fdb(device: u32) -> Request {
    Request::new(libc::RTM_GETNEIGH, DUMP, &header(BRIDGE, device, 0, 0), |_| {})
}

/// Asks for the neighbours on a device, of one family.
fn list_neighbours(family: u8, device: u32) -> Request {
    Request::new(libc::RTM_GETNEIGH, DUMP, &header(family, 0, 0, 0), |w| w.u32_ne(ONLY_OF, device))
}

/// An entry of either table as the kernel's messages hold it.
#[derive(Debug)]
pub(crate) struct Entry {
    family: u8,
    /// The index of its device.
    pub(crate) device: u32,
    permanent: bool,
    protocol: Option<u8>,
    destination: Option<IpAddr>,
    mac: Option<MacAddr>,
    /// It leads to another port or network than its device does, or by one device alone.
    aside: bool,
}

impl Entry {
    /// What is told by it, if it may be one of ours: bridges have forwarding entries too, but those lead to no address.
    /// A neighbour that isn't permanent any more is about to go, and ours lead nowhere aside.
    pub(crate) fn announced(&self, gone: bool) -> Option<Announced> {
        let (device, address) = (self.device, self.destination?);
        if self.family == BRIDGE {
            let gone = gone || self.aside;
            let object = Object::Forwarding { mac: self.mac?, remote: address };
            return Some(Announced { device, object, gone });
        }
        let gone = gone || !self.permanent;
        let object = Object::Neighbour { address, mac: self.mac.filter(|_| !gone) };
        (self.protocol == Some(mark::ROUTE_PROTOCOL)).then_some(Announced { device, object, gone })
    }
}

/// Reads an RTM_NEWNEIGH or RTM_DELNEIGH.
pub(crate) fn entry(payload: &[u8]) -> Option<Entry> {
    let family = *payload.first()?;
    let attributes = Reader(payload.get(HEADER..)?);
    let aside = || [OTHER_PORT, OTHER_VNI, ONLY_OF].into_iter().any(|of| attributes.get(of).is_some());
    let of = |value: &[u8]| request::FAMILIES.into_iter().find_map(|family| ip(family, value));
    Some(Entry {
        family,
        device: u32_at(payload, 4)?,
        permanent: u16_at(payload, 8)? & PERMANENT != 0,
        protocol: attributes.get(PROTOCOL).and_then(|value| value.first().copied()),
        destination: attributes.get(DESTINATION).and_then(of),
        mac: attributes.get(MAC).and_then(|value| value.try_into().ok()).map(MacAddr),
        aside: family == BRIDGE && aside(),
    })
}

impl RouteSocket {
    /// True if the kernel has VXLAN. It is asked for a device that can't be made, and says what is wrong with it.
    pub fn has_vxlan(&mut self) -> bool {
        let nameless = link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |w| {
            w.nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "vxlan"));
        });
        self.request(nameless).is_err_and(|refusal| refusal.errno() != libc::EOPNOTSUPP)
    }

    /// True if the kernel has WireGuard, which is asked in the same way.
    pub fn has_wireguard(&mut self) -> bool {
        self.has_kind("wireguard")
    }

    /// True if links of that kind can be made. A kernel that knows the kind says that no link has so many queues.
    pub(crate) fn has_kind(&mut self, kind: &str) -> bool {
        let impossible = link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |w| {
            w.u32_ne(libc::IFLA_NUM_TX_QUEUES, TOO_MANY);
            w.nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, kind));
        });
        self.request(impossible).is_err_and(|refusal| refusal.errno() != libc::EOPNOTSUPP)
    }

    /// Makes a WireGuard device, without a key, an MTU or an alias of ours.
    ///
    /// # Errors
    /// The kernel's answer: `EEXIST` where there is a link of that name, of whatever kind, `EOPNOTSUPP` without
    /// WireGuard.
    pub fn create_wireguard(&mut self, name: &IfName) -> Result<(), Refusal> {
        self.request(link(libc::RTM_NEWLINK, CREATE | EXCL, 0, |w| {
            w.text(libc::IFLA_IFNAME, name.as_str());
            w.nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "wireguard"));
        }))
    }

    /// Deletes a link by its index; one that isn't there is no error.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_index(&mut self, index: u32) -> Result<(), Refusal> {
        match self.request(request::delete_link(index)) {
            Err(refusal) if refusal.errno() == libc::ENODEV => Ok(()),
            answer => answer,
        }
    }

    /// Adds to what was observed who is where behind our tunnel devices.
    ///
    /// # Errors
    /// [`NetlinkError::Read`], [`NetlinkError::Unsettled`].
    pub fn observe_overlays(&mut self, observed: &mut ObservedNetwork) -> Result<(), NetlinkError> {
        let ours = observed
            .links
            .iter()
            .filter(|(_, link)| link.kind == LinkKind::Vxlan && mark::is_ours(&link.alias));
        let ours: Vec<(IfName, u32)> = ours.map(|(name, link)| (name.clone(), link.index)).collect();
        for (device, index) in ours {
            let offloads = offload::tx_checksums(self.as_fd(), &device).ok();
            observed.links.entry(device.clone()).and_modify(|link| link.tx_checksums = offloads);
            let entries = self.entries("forwarding entries", &list_fdb(index), index)?;
            // One that leads aside is none of ours, and ours take its place.
            let fdb = entries.into_iter().filter(|entry| !entry.aside).filter_map(|entry| {
                Some(FdbEntry { device: device.clone(), mac: entry.mac?, remote: entry.destination? })
            });
            observed.fdb.extend(fdb);
            let mut neighbours = Vec::new();
            for family in request::FAMILIES {
                let entries = self.entries("neighbours", &list_neighbours(family, index), index)?;
                neighbours.extend(entries.into_iter().filter_map(|entry| {
                    let (address, mac) = (entry.destination?, entry.mac?);
                    entry.permanent.then_some(Neighbour { device: device.clone(), address, mac })
                }));
            }
            observed.neighbours.extend(neighbours);
        }
        Ok(())
    }

    /// What a device has; none if there is no such device any more, or the family is switched off.
    fn entries(
        &mut self,
        what: &'static str,
        listing: &Request,
        device: u32,
    ) -> Result<Vec<Entry>, NetlinkError> {
        let of_device = |payload: &[u8]| entry(payload).filter(|entry| entry.device == device);
        match self.read_all(what, listing, of_device) {
            Err(error) if error.is_gone() || error.is_no_such_device() => Ok(Vec::new()),
            entries => entries,
        }
    }
}
