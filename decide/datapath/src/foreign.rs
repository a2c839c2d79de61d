//! Other people's forward chains, in which forwarded packets may be dropped whatever our tables say (Docker sets
//! iptables' FORWARD policy to DROP).

use std::fmt;

use ipnet::IpNet;
use selvedge_ruleset::{ChainName, Family, IpVersion, TableId};

/// Which address of a packet an accept rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The source.
    From,
    /// The destination.
    To,
}

/// Accept what comes from, or goes to, a network of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accept {
    /// The network.
    pub cidr: IpNet,
    /// Whether it holds the source or the destination.
    pub direction: Direction,
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = match self.direction {
            Direction::From => "-s",
            Direction::To => "-d",
        };
        write!(f, "-I FORWARD {flag} {} -j ACCEPT", self.cidr)
    }
}

/// Where a foreign forward chain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// FORWARD of the legacy filter table.
    Legacy(IpVersion),
    /// A base chain on the forward hook in nftables.
    Nft(TableId, ChainName),
}

impl Place {
    /// True if packets of that family pass it.
    fn sees(&self, cidr: &IpNet) -> bool {
        let v4 = matches!(cidr, IpNet::V4(_));
        match self {
            Self::Legacy(IpVersion::V4) => v4,
            Self::Legacy(IpVersion::V6) => !v4,
            Self::Nft(table, _) => match table.family {
                Family::Ip => v4,
                Family::Ip6 => !v4,
                Family::Inet => true,
                Family::Arp | Family::Bridge | Family::Netdev => false,
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(IpVersion::V4) => f.write_str("iptables-legacy"),
            Self::Legacy(IpVersion::V6) => f.write_str("ip6tables-legacy"),
            Self::Nft(table, chain) => write!(f, "nft {table} {chain}"),
        }
    }
}

/// A foreign forward chain that may drop, with the rules of one network of ours at its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardChain {
    /// Where it is.
    pub place: Place,
    /// Our rules, sorted; what bears our mark and isn't in its place is missing here.
    pub ours: Vec<Accept>,
}

/// The rules that let the pods of these subnets through: all they send, and all that is sent to them.
pub fn accepting(subnets: &[IpNet]) -> Vec<Accept> {
    let both = |cidr: &IpNet| {
        [Direction::From, Direction::To].map(|direction| Accept { cidr: cidr.trunc(), direction })
    };
    let mut rules: Vec<Accept> = subnets.iter().flat_map(both).collect();
    rules.sort();
    rules
}

/// The rules that belong into one chain: those of the families it sees.
pub fn wanted_in(place: &Place, accept: &[Accept]) -> Vec<Accept> {
    accept.iter().filter(|rule| place.sees(&rule.cidr)).copied().collect()
}
