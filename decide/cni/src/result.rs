//! The result of ADD, written in every version (specification, section 5, "Success").

mod chain;
mod parse;

use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::MacAddr;
use serde_json::{Map, Value, json};

use crate::dns::Dns;
use crate::error::{CniError, code};
use crate::version::{Shape, Version};

pub use chain::PrevResult;

/// What an attachment consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddResult {
    /// The interfaces made.
    pub interfaces: Vec<Interface>,
    /// The addresses given.
    pub ips: Vec<Ip>,
    /// The routes in the container.
    pub routes: Vec<Route>,
    /// What is said of name resolution.
    pub dns: Dns,
}

/// An interface, in the container or on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address. Results of others may have none, or one that is no unicast Ethernet address, such as that of
    /// `lo`; those read as none.
    pub mac: Option<MacAddr>,
    /// The container's namespace, exactly as CNI_NETNS named it; none on the host.
    pub sandbox: Option<String>,
    /// Its MTU in bytes; written from version 1.1.0.
    pub mtu: Option<u32>,
}

/// An address of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The interface that has it, as an index into the result's interfaces.
    pub interface: Option<usize>,
    /// The address with the subnet's prefix length.
    pub address: IpNet,
    /// The default gateway of its subnet.
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// By way of; none means the default gateway of the family.
    pub gw: Option<IpAddr>,
}

impl AddResult {
    /// The result in a version's shape. What the version has no place for is left out; 0.1.0 and 0.2.0 can't do
    /// without an address, and then this fails with code 1.
    pub fn render(&self, version: Version) -> Result<Value, CniError> {
        let mut object = Map::new();
        object.insert("cniVersion".into(), version.as_str().into());
        match version.shape() {
            Shape::PerFamily => self.render_families(version, &mut object)?,
            Shape::Versioned | Shape::Plain => {
                let interfaces = self.interfaces.iter().map(|i| i.to_json(version));
                object.insert("interfaces".into(), interfaces.collect());
                object.insert("ips".into(), self.ips.iter().map(|ip| ip.to_json(version)).collect());
                object.insert("routes".into(), self.routes.iter().copied().map(Route::to_json).collect());
            }
        }
        object.insert("dns".into(), self.dns.to_json());
        Ok(object.into())
    }

    fn render_families(&self, version: Version, object: &mut Map<String, Value>) -> Result<(), CniError> {
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| is_v4(&ip.address) == v4) else { continue };
            let mut family = Map::new();
            family.insert("ip".into(), ip.address.to_string().into());
            insert_ip(&mut family, "gateway", ip.gateway);
            let routes = self.routes.iter().copied().filter(|route| is_v4(&route.dst) == v4);
            family.insert("routes".into(), routes.map(Route::to_json).collect());
            object.insert(key.into(), family.into());
        }
        if self.ips.is_empty() {
            let message = format!("a result without an address can't be written in cniVersion {version}");
            return Err(CniError::new(code::VERSION, message));
        }
        Ok(())
    }
}

impl Interface {
    /// The namespace that it is in; none on the host.
    fn namespace(&self) -> Option<&str> {
        self.sandbox.as_deref().filter(|path| !path.is_empty())
    }

    fn to_json(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), self.name.as_str().into());
        if let Some(mac) = self.mac {
            object.insert("mac".into(), mac.to_string().into());
        }
        if let Some(mtu) = self.mtu.filter(|_| version >= Version::V1_1_0) {
            object.insert("mtu".into(), mtu.into());
        }
        if let Some(sandbox) = &self.sandbox {
            object.insert("sandbox".into(), sandbox.as_str().into());
        }
        object.into()
    }
}

impl Ip {
    fn to_json(&self, version: Version) -> Value {
        let mut object = Map::new();
        if version.shape() == Shape::Versioned {
            object.insert("version".into(), if is_v4(&self.address) { "4" } else { "6" }.into());
        }
        if let Some(interface) = self.interface {
            object.insert("interface".into(), interface.into());
        }
        object.insert("address".into(), self.address.to_string().into());
        insert_ip(&mut object, "gateway", self.gateway);
        object.into()
    }
}

impl Route {
    fn to_json(self) -> Value {
        match self.gw {
            Some(gw) => json!({ "dst": self.dst.to_string(), "gw": gw.to_string() }),
            None => json!({ "dst": self.dst.to_string() }),
        }
    }
}

fn insert_ip(object: &mut Map<String, Value>, key: &str, ip: Option<IpAddr>) {
    if let Some(ip) = ip {
        object.insert(key.into(), ip.to_string().into());
    }
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

#[cfg(test)]
mod tests;
