//! What a kernel announces of changes, held against what is known.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::{IfName, MacAddr};

use crate::state::{FdbEntry, Neighbour, ObservedNetwork, Route, RouteProtocol};

/// A change to something of which a node may have thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The index of the device that it is on.
    pub device: u32,
    /// What it is.
    pub object: Object,
    /// It is no longer there; else it is there now, as it is told of.
    pub gone: bool,
}

/// What can be told of so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A unicast route of the main table, all of it but the device.
    Route {
        /// The destination.
        destination: IpNet,
        /// The next hop.
        via: Option<IpAddr>,
        /// The source address.
        source: Option<IpAddr>,
        /// The MTU.
        mtu: Option<u32>,
        /// Whether the next hop is on the link though no address says so.
        onlink: bool,
        /// Who made it.
        protocol: RouteProtocol,
    },
    /// A forwarding entry of an overlay device.
    Forwarding {
        /// The peer's hardware address.
        mac: MacAddr,
        /// Its underlay address.
        remote: IpAddr,
    },
    /// A permanent neighbour.
    Neighbour {
        /// The address.
        address: IpAddr,
        /// Who has it, as far as that is told.
        mac: Option<MacAddr>,
    },
}

impl ObservedNetwork {
    /// True if it is as that says already: who knows what is here has learnt nothing then. What we change ourselves is
    /// announced too.
    pub fn shows(&self, announced: &Announced) -> bool {
        let is_device = |(_, link): &(_, &crate::state::ObservedLink)| link.index == announced.device;
        let Some((device, _)) = self.links.iter().find(is_device) else { return false };
        self.has(device, &announced.object) != announced.gone
    }

    fn has(&self, device: &IfName, object: &Object) -> bool {
        let device = device.clone();
        match *object {
            Object::Route { destination, via, source, mtu, onlink, protocol } => {
                self.routes.contains(&Route { destination, via, device, source, mtu, onlink, protocol })
            }
            Object::Forwarding { mac, remote } => self.fdb.contains(&FdbEntry { device, mac, remote }),
            Object::Neighbour { address, mac: Some(mac) } => {
                self.neighbours.contains(&Neighbour { device, address, mac })
            }
            Object::Neighbour { address, mac: None } => {
                let order = |have: &Neighbour| (&have.device, have.address).cmp(&(&device, address));
                self.neighbours.like(order).next().is_some()
            }
        }
    }
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Object::Route { destination, .. } => write!(f, "route {destination} ")?,
            Object::Forwarding { remote: address, .. } | Object::Neighbour { address, .. } => {
                write!(f, "neighbour {address} ")?;
            }
        }
        f.write_str(if self.gone { "gone" } else { "changed" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{LinkKind, ObservedLink};
    use selvedge_model::Mtu;

    fn network() -> ObservedNetwork {
        let link = ObservedLink::new(LinkKind::Vxlan, MacAddr([2; 6]), Mtu::ETHERNET, "");
        ObservedNetwork {
            links: [("vx".parse().unwrap(), ObservedLink { index: 7, ..link })].into(),
            routes: [Route::through("10.1.0.0/24", "vx", 83)].into(),
            fdb: [FdbEntry { device: "vx".parse().unwrap(), mac: MacAddr([1; 6]), remote: ip(9) }].into(),
            neighbours: [Neighbour { device: "vx".parse().unwrap(), address: ip(1), mac: MacAddr([1; 6]) }]
                .into(),
            ..ObservedNetwork::default()
        }
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn route(protocol: u8) -> Object {
        let Route { destination, via, source, mtu, onlink, protocol, .. } =
            Route::through("10.1.0.0/24", "vx", protocol);
        Object::Route { destination, via, source, mtu, onlink, protocol }
    }

    #[test]
    fn what_is_known_already_is_no_news_and_everything_else_is() {
        let known = [
            route(83),
            Object::Forwarding { mac: MacAddr([1; 6]), remote: ip(9) },
            Object::Neighbour { address: ip(1), mac: Some(MacAddr([1; 6])) },
            Object::Neighbour { address: ip(1), mac: None },
        ];
        let others = [
            route(4),
            Object::Forwarding { mac: MacAddr([1; 6]), remote: ip(8) },
            Object::Neighbour { address: ip(1), mac: Some(MacAddr([3; 6])) },
            Object::Neighbour { address: ip(2), mac: None },
        ];
        let shows = |device, object: &Object, gone| {
            network().shows(&Announced { device, object: object.clone(), gone })
        };
        for object in &known {
            assert_eq!([shows(7, object, false), shows(7, object, true)], [true, false], "{object:?}");
        }
        for object in &others {
            assert_eq!([shows(7, object, false), shows(7, object, true)], [false, true], "{object:?}");
        }
        assert!(
            known.iter().chain(&others).all(|object| !shows(8, object, false) && !shows(8, object, true))
        );
    }
}
