//! The legacy FORWARD chains in the words of `selvedge-datapath`, beside those of nftables.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvedge_datapath::foreign::{self, Accept, ForwardChain, Place};
use selvedge_model::NetworkName;
use selvedge_ruleset::IpVersion;

use crate::{AcceptRule, Change, Direction, Family, Policy, XtablesError, forward_policy, set_accept};

/// The legacy FORWARD chains that may drop, with this network's rules in them.
///
/// # Errors
/// As [`forward_policy`].
pub fn forward_chains(network: &NetworkName) -> Result<Vec<ForwardChain>, XtablesError> {
    let mut chains = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let Some(forward) = forward_policy(family(version))? else { continue };
        if forward.policy == Policy::Accept && forward.rules == 0 {
            continue;
        }
        // One that nobody wants stands for an edited rule, and for one that isn't in its place.
        let amiss = Accept { cidr: everything(version), direction: foreign::Direction::From };
        let ours = forward.ours.iter().filter(|rule| rule.network == *network);
        let mut ours: Vec<Accept> = ours.map(|rule| rule.accept.map_or(amiss, Accept::from)).collect();
        ours.sort();
        chains.push(ForwardChain { place: Place::Legacy(version), ours });
    }
    Ok(chains)
}

/// Makes this network's rules in a legacy FORWARD chain exactly these; nothing where there is no such chain.
///
/// # Errors
/// As [`set_accept`].
pub fn accept(version: IpVersion, network: &NetworkName, rules: &[Accept]) -> Result<Change, XtablesError> {
    let rules: Vec<AcceptRule> = rules.iter().copied().map(AcceptRule::from).collect();
    set_accept(family(version), network, &rules)
}

fn everything(version: IpVersion) -> IpNet {
    match version {
        IpVersion::V4 => Ipv4Net::default().into(),
        IpVersion::V6 => Ipv6Net::default().into(),
    }
}

fn family(version: IpVersion) -> Family {
    match version {
        IpVersion::V4 => Family::Ipv4,
        IpVersion::V6 => Family::Ipv6,
    }
}

impl From<AcceptRule> for Accept {
    fn from(rule: AcceptRule) -> Self {
        let direction = match rule.direction {
            Direction::From => foreign::Direction::From,
            Direction::To => foreign::Direction::To,
        };
        Self { cidr: rule.cidr, direction }
    }
}

impl From<Accept> for AcceptRule {
    fn from(accept: Accept) -> Self {
        let direction = match accept.direction {
            foreign::Direction::From => Direction::From,
            foreign::Direction::To => Direction::To,
        };
        Self { cidr: accept.cidr, direction }
    }
}
