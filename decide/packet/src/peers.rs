//! Which node a packet goes to, and what each node may send.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::Forwarding;

use crate::ends::Ends;
use crate::nets::Nets;

/// The nodes of a tunnel, made once and looked up for every packet.
#[derive(Debug, Default)]
pub struct Peers {
    endpoints: Vec<IpAddr>,
    numbers: BTreeMap<IpAddr, usize>,
    nets: Nets,
}

/// Nets that were given to two nodes, or the like: nothing of it is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// One net is behind two nodes.
    #[error("peers: {net} is behind both {one} and {other}")]
    Net {
        /// The net.
        net: IpNet,
        /// One node's endpoint.
        one: IpAddr,
        /// The other's.
        other: IpAddr,
    },
    /// A node is there twice.
    #[error("peers: {0} is there twice")]
    Twice(IpAddr),
    /// A node's address is of another family than this one's.
    #[error("peers: {endpoint} is of another family than {local}")]
    Family {
        /// The node's endpoint.
        endpoint: IpAddr,
        /// This node's address.
        local: IpAddr,
    },
}

/// Why a packet that came is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwelcome {
    /// No node of ours has the address that it came from.
    Stranger,
    /// The packet is from an address that is not behind the node that sent it.
    Source,
}

impl Peers {
    /// The nodes that a forwarder is told of.
    ///
    /// # Errors
    /// [`Contradiction`] if it can't all be true.
    pub fn of(forwarding: &Forwarding) -> Result<Self, Contradiction> {
        let mut peers = Self::default();
        for (number, peer) in forwarding.peers.iter().enumerate() {
            let (endpoint, local) = (peer.endpoint, forwarding.local);
            if endpoint.is_ipv4() != local.is_ipv4() {
                return Err(Contradiction::Family { endpoint, local });
            }
            peers.endpoints.push(endpoint);
            if peers.numbers.insert(endpoint, number).is_some() {
                return Err(Contradiction::Twice(endpoint));
            }
            for net in &peer.nets {
                if let Some(before) = peers.nets.insert(*net, number) {
                    let one = peers.endpoints[before];
                    return Err(Contradiction::Net { net: *net, one, other: endpoint });
                }
            }
        }
        Ok(peers)
    }

    /// The endpoint of the node that an address is behind.
    pub fn endpoint(&self, destination: IpAddr) -> Option<IpAddr> {
        self.nets.number(destination).and_then(|number| self.endpoints.get(number)).copied()
    }

    /// Whether a packet may have come from there.
    ///
    /// # Errors
    /// [`Unwelcome`] if not.
    pub fn admit(&self, from: IpAddr, ends: &Ends) -> Result<(), Unwelcome> {
        let number = self.numbers.get(&from).ok_or(Unwelcome::Stranger)?;
        if self.nets.number(ends.source) == Some(*number) { Ok(()) } else { Err(Unwelcome::Source) }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_model::ForwardingPeer;

    use super::*;

    fn forwarding(peers: &[(&str, &[&str])]) -> Forwarding {
        let peers = peers.iter().map(|(endpoint, nets)| ForwardingPeer {
            endpoint: endpoint.parse().unwrap(),
            nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
        });
        Forwarding { port: 8383, local: "10.0.0.1".parse().unwrap(), peers: peers.collect() }
    }

    fn ends(source: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: "10.244.0.1".parse().unwrap() }
    }

    #[test]
    fn the_longest_prefix_says_which_node() {
        let nets: [(&str, &[&str]); 3] = [
            ("10.0.0.2", &["10.244.1.0/24", "fd00:1::/64"]),
            ("10.0.0.3", &["10.244.0.0/16", "10.244.1.7/32"]),
            ("10.0.0.4", &["0.0.0.0/0"]),
        ];
        let peers = Peers::of(&forwarding(&nets)).unwrap();
        let to =
            |address: &str| peers.endpoint(address.parse().unwrap()).map(|endpoint| endpoint.to_string());
        assert_eq!(to("10.244.1.1").as_deref(), Some("10.0.0.2"));
        assert_eq!(to("10.244.1.7").as_deref(), Some("10.0.0.3"));
        assert_eq!(to("10.244.2.1").as_deref(), Some("10.0.0.3"));
        assert_eq!(to("192.0.2.1").as_deref(), Some("10.0.0.4"));
        assert_eq!(to("fd00:1::9").as_deref(), Some("10.0.0.2"));
        assert_eq!(to("fd00:2::9"), None);
    }

    #[test]
    fn a_node_sends_from_what_is_behind_it_only() {
        let nets: [(&str, &[&str]); 2] = [("10.0.0.2", &["10.244.0.0/16"]), ("10.0.0.3", &["10.244.3.0/24"])];
        let peers = Peers::of(&forwarding(&nets)).unwrap();
        let admit = |from: &str, source: &str| peers.admit(from.parse().unwrap(), &ends(source));
        assert_eq!(admit("10.0.0.2", "10.244.2.1"), Ok(()));
        assert_eq!(admit("10.0.0.3", "10.244.3.1"), Ok(()));
        assert_eq!(admit("10.0.0.2", "10.244.3.1"), Err(Unwelcome::Source), "a longer prefix is another's");
        assert_eq!(admit("10.0.0.3", "10.244.2.1"), Err(Unwelcome::Source));
        assert_eq!(admit("10.0.0.3", "192.0.2.1"), Err(Unwelcome::Source));
        assert_eq!(admit("10.0.0.9", "10.244.3.1"), Err(Unwelcome::Stranger));
    }

    #[test]
    fn what_can_not_all_be_true_is_refused() {
        let twice = [("10.0.0.2", &["10.244.1.0/24"] as &[&str]), ("10.0.0.3", &["10.244.1.0/24"])];
        let refused = |peers: &[(&str, &[&str])]| Peers::of(&forwarding(peers)).unwrap_err().to_string();
        assert_eq!(refused(&twice), "peers: 10.244.1.0/24 is behind both 10.0.0.2 and 10.0.0.3");
        assert_eq!(refused(&[("10.0.0.2", &[]), ("10.0.0.2", &[])]), "peers: 10.0.0.2 is there twice");
        assert_eq!(refused(&[("fd00::2", &[])]), "peers: fd00::2 is of another family than 10.0.0.1");
        assert!(Peers::of(&forwarding(&[("10.0.0.2", &["10.244.1.0/24", "10.244.1.0/24"])])).is_ok());
    }
}
