//! What we write on kernel objects. What bears a mark is ours to change and to prune; nothing else is touched.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use crate::names::{AttachmentKey, ContainerId, IfName, NetworkName};
use crate::tag::PodTag;
use crate::transport::Transport;

/// The protocol number of every route of ours (`proto 83`).
pub const ROUTE_PROTOCOL: u8 = 83;

/// The link group of veths that wait for their deletion. A link in it owns nothing.
pub const REAP_GROUP: u32 = 0x736c_7672;

/// The first word of every ifalias of ours.
pub const ALIAS_WORD: &str = "selvedge";

/// The longest ifalias the kernel takes, in bytes (IFALIASZ less the terminator).
pub const MAX_ALIAS: usize = 255;

/// The device by which pods of other nodes are reached in VXLAN.
pub const VXLAN_DEVICE: &str = "selvedge-vx";

/// The device by which pods of other nodes are reached in plain UDP, which the forwarder makes.
pub const UDP_DEVICE: &str = "selvedge-udp";

/// The device by which pods of other nodes are reached in WireGuard: the kernel's, or one that a forwarder makes.
pub const WIREGUARD_DEVICE: &str = "selvedge-wg";

/// What packets travel in that leave by a device, if it is one of these.
pub fn overlay(device: &IfName) -> Option<Transport> {
    match device.as_str() {
        VXLAN_DEVICE => Some(Transport::Vxlan),
        UDP_DEVICE => Some(Transport::Udp),
        WIREGUARD_DEVICE => Some(Transport::Wireguard),
        _ => None,
    }
}

/// The agent's nftables table, in the families `inet` and, where a bridge is used, `bridge`.
pub const AGENT_TABLE: &str = "selvedge";

/// The plugin's nftables table, in the families `inet` and `bridge`.
pub const PLUGIN_TABLE: &str = "selvedge-cni";

/// The first word of the comment on each rule that we add to somebody else's chain.
pub const FOREIGN_COMMENT: &str = "selvedge";

/// The owner record that every host veth carries in its ifalias:
/// `selvedge <network> <container>/<ifname> <address>[,<address>…] [pod=…]`, addresses with the prefix length that the
/// pod has them with (`/32` and `/128` where it is routed, the subnet's where it is bridged).
///
/// It is the oracle from which a lost lease journal is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The network's name.
    pub network: NetworkName,
    /// The attachment, as recorded ([`AttachmentKey::recorded`]).
    pub key: AttachmentKey,
    /// The pod's addresses, in the order of the result.
    pub addresses: Vec<IpNet>,
    /// Which Pod of the cluster it is, where the runtime said so.
    pub pod: Option<PodTag>,
}

/// The ifalias is none of ours, or not a whole record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{alias:?} is no owner record")]
pub struct NoOwner {
    /// The alias as read.
    pub alias: String,
}

impl Owner {
    /// The record of an attachment; the container id is hashed where it is longer than records carry.
    pub fn new(network: NetworkName, key: &AttachmentKey, addresses: Vec<IpNet>) -> Self {
        Self { network, key: key.recorded(), addresses, pod: None }
    }

    /// The record of that Pod's attachment.
    #[must_use]
    pub fn of_pod(self, pod: Option<PodTag>) -> Self {
        Self { pod, ..self }
    }

    /// True if the pod hangs on a bridge: its addresses have their subnet's prefix length, not the whole one.
    pub fn is_bridged(&self) -> bool {
        self.addresses.iter().any(|net| net.prefix_len() != net.max_prefix_len())
    }
}

impl fmt::Display for Owner {
    /// The ifalias. A record that would be longer than [`MAX_ALIAS`] loses addresses from its end, never a part of
    /// one (with the longest names of a container there is room for an IPv4 and an IPv6 address).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{ALIAS_WORD} {} {} ", self.network, self.key);
        let pod = self.pod.as_ref().map_or_else(String::new, |pod| format!(" {pod}"));
        for (i, address) in self.addresses.iter().enumerate() {
            let part = if i == 0 { address.to_string() } else { format!(",{address}") };
            if text.len() + part.len() + pod.len() > MAX_ALIAS {
                break;
            }
            text.push_str(&part);
        }
        f.write_str(&text)?;
        f.write_str(&pod)
    }
}

impl FromStr for Owner {
    type Err = NoOwner;

    fn from_str(alias: &str) -> Result<Self, NoOwner> {
        parse(alias).ok_or_else(|| NoOwner { alias: alias.to_owned() })
    }
}

fn parse(alias: &str) -> Option<Owner> {
    let mut words = alias.split(' ');
    if words.next()? != ALIAS_WORD {
        return None;
    }
    let network = words.next()?.parse().ok()?;
    let (container, ifname) = words.next()?.rsplit_once('/')?;
    let container: ContainerId = container.parse().ok()?;
    let ifname: IfName = ifname.parse().ok()?;
    let addresses = words.next()?.split(',').filter(|a| !a.is_empty());
    let addresses = addresses.map(|a| a.parse().ok()).collect::<Option<Vec<IpNet>>>()?;
    let pod = words.next().map(str::parse).transpose().ok()?;
    if words.next().is_some() {
        return None;
    }
    Some(Owner { network, key: AttachmentKey { container, ifname }, addresses, pod })
}

/// The ifalias of a device of ours that belongs to a network rather than to a pod (`cni0`): `selvedge <network>`.
pub fn device_alias(network: &NetworkName) -> String {
    format!("{ALIAS_WORD} {network}")
}

/// True if an ifalias bears our mark, an owner record or a device's.
pub fn is_ours(alias: &str) -> bool {
    alias.split(' ').next() == Some(ALIAS_WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_record_reads_back() {
        let text = "selvedge mynet c-1/eth0 10.244.1.7/32,fd00::7/128";
        let owner: Owner = text.parse().unwrap();
        assert_eq!(owner.addresses.len(), 2);
        assert_eq!(owner.to_string(), text);
        let tagged = owner.of_pod(Some(PodTag::new(&"shop/web-0".parse().unwrap(), Some("u-1"))));
        assert_eq!(tagged.to_string().parse::<Owner>(), Ok(tagged));
    }

    #[test]
    fn a_record_with_an_interface_name_of_a_vlan_reads_back() {
        let text = "selvedge mynet c-1/eth0.5 10.244.1.7/24";
        assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
    }

    #[test]
    fn foreign_aliases_are_no_owner_records() {
        for alias in
            ["", "uplink", "selvedge", "selvedge mynet", "selvedgeX a b/c 10.0.0.1/32", "selvedge a b 1/2"]
        {
            assert!(alias.parse::<Owner>().is_err(), "{alias:?} was taken for a record");
        }
    }

    #[test]
    fn the_longest_record_fits_the_kernels_limit_and_keeps_whole_addresses() {
        let tag = PodTag::new(&"shop/web-0".parse().unwrap(), Some("u-1"));
        let key =
            AttachmentKey { container: "c".repeat(300).parse().unwrap(), ifname: "eth0".parse().unwrap() };
        let address = |i: u16| format!("fd00:1111:2222:3333:4444:5555:6666:{i:x}/128").parse().unwrap();
        let owner = Owner::new("n".repeat(40).parse().unwrap(), &key, (1000..1010).map(address).collect());
        let text = owner.to_string();
        assert!(text.len() <= MAX_ALIAS);
        assert!(text.parse::<Owner>().unwrap().addresses.len() >= 2);
        let text = owner.of_pod(Some(tag.clone())).to_string();
        let read: Owner = text.parse().unwrap();
        assert!(text.len() <= MAX_ALIAS && !read.addresses.is_empty() && read.pod == Some(tag));
    }
}
