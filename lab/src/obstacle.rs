//! What the network between the nodes drops: packets to ports that are blocked, and any by chance.

use std::num::NonZeroU32;

use selvedge_netns::{Namespace, NetnsError};
use selvedge_nft::{NftError, NftSocket};
use selvedge_ruleset::matching::{tcp_dport, udp_dport};
use selvedge_ruleset::rule::{drop, one_in};
use selvedge_ruleset::{Base, ChainName, Change, Family, Hook, Rule, TableId, Transaction, priority, rule};

use crate::shape::{Network, WithPorts};

/// Where packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Where a segment's bridge forwards them.
    Bridge,
    /// Where the router forwards them.
    Router,
}

/// Why a machine drops nothing.
#[derive(Debug, thiserror::Error)]
pub enum ObstacleError {
    /// Its namespace could not be entered.
    #[error("enter the namespace")]
    Namespace(#[from] NetnsError),
    /// The kernel did not take the rules.
    #[error("make the rules that drop packets")]
    Rules(#[from] NftError),
}

/// Has a machine drop what does not get through; where everything does it is left as it is.
pub(crate) fn put(network: &Network, spot: Spot, machine: &Namespace) -> Result<(), ObstacleError> {
    let rules = rules(network);
    if rules.is_empty() {
        return Ok(());
    }
    let transaction = making(spot, rules);
    let put = || NftSocket::open()?.apply(&transaction);
    Ok(machine.run(put)??)
}

/// What makes a table of these rules.
fn making(spot: Spot, rules: Vec<Rule>) -> Transaction {
    let (family, priority) = match spot {
        Spot::Bridge => (Family::Bridge, priority::BRIDGE_FILTER),
        Spot::Router => (Family::Inet, priority::FILTER),
    };
    let chain = ChainName::literal("forward");
    let base = Base::filter(Hook::Forward, priority);
    let made = [Change::AddTable { owned: false }, Change::AddChain(chain.clone(), Some(base))];
    let rules = rules.into_iter().map(|rule| Change::AddRule { chain: chain.clone(), before: None, rule });
    let mut transaction = Transaction::default();
    made.into_iter()
        .chain(rules)
        .for_each(|change| transaction.push(&TableId::literal(family, "lab"), change));
    transaction
}

/// A rule for each port, and those for what chance takes.
fn rules(network: &Network) -> Vec<Rule> {
    let blocked = network.blocked.iter().map(|blocked| {
        let port = blocked.port.get();
        let to_port = match blocked.protocol {
            WithPorts::Tcp => tcp_dport(port),
            WithPorts::Udp => udp_dport(port),
        };
        rule![to_port, drop()].comment("blocked")
    });
    blocked.chain(losing(network.loss.get())).collect()
}

/// Rules that drop so many packets of a hundred, by one in 100, then one in 99 of the rest, and on: of a hundred that
/// come to the first, each takes one.
fn losing(percent: u8) -> impl Iterator<Item = Rule> {
    let left = (0..u32::from(percent)).filter_map(|lost| NonZeroU32::new(100 - lost));
    left.map(|packets| rule![one_in(packets), drop()].comment("lost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(blocked: &[&str], loss: u8, spot: Spot) -> String {
        let blocked = blocked.iter().map(|text| text.parse().unwrap()).collect();
        let network = Network { blocked, loss: loss.to_string().parse().unwrap(), ..Network::default() };
        making(spot, rules(&network)).to_string()
    }

    #[test]
    fn the_router_drops_in_forwarding_what_is_blocked() {
        let expected = "add table inet lab\n\
            add chain inet lab forward { type filter hook forward priority filter; policy accept; }\n\
            add rule inet lab forward tcp dport 443 drop comment \"blocked\"\n\
            add rule inet lab forward udp dport 4789 drop comment \"blocked\"\n";
        assert_eq!(script(&["udp/4789", "tcp/443"], 0, Spot::Router), expected);
    }

    #[test]
    fn the_bridge_drops_by_chance_as_many_of_a_hundred_as_are_asked_for() {
        let text = script(&[], 3, Spot::Bridge);
        let rules: Vec<&str> = text.lines().skip(2).collect();
        let rule = |n| format!("add rule bridge lab forward numgen random mod {n} 0 drop comment \"lost\"");
        assert_eq!(rules, [rule(100), rule(99), rule(98)]);
        let left = (98..=100).fold(1.0, |left, n| left * (1.0 - 1.0 / f64::from(n)));
        assert!((left - 0.97_f64).abs() < 1e-9, "{left}");
    }

    #[test]
    fn a_network_that_lets_everything_through_has_no_table() {
        assert!(rules(&Network::default()).is_empty());
    }
}
