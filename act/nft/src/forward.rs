//! Our accept rules in other people's forward chains, in the form in which iptables-nft writes and lists them.

use rustix::io::Errno;
use selvedge_datapath::foreign::{Accept, Direction, ForwardChain, Place};
use selvedge_model::NetworkName;
use selvedge_model::mark::{AGENT_TABLE, PLUGIN_TABLE};
use selvedge_ruleset::foreign::{ForeignChain, ForeignRule, comment_of};
use selvedge_ruleset::matching::{End, daddr, saddr};
use selvedge_ruleset::rule::{accept, counter};
use selvedge_ruleset::{
    ChainName, Family, Hook, Match, Rule, Seen, Statement, TableId, Test, Transaction, Verdict, rule,
};
use selvedge_wire::Socket;

use crate::error::NftError;
use crate::list;
use crate::transaction::NftSocket;

impl NftSocket {
    /// The base chains on the forward hook in tables that aren't ours, in which forwarded packets may be dropped or
    /// that hold rules of this network.
    ///
    /// A rule of ours in its place, at the head, is given once; one that has a copy, is edited, or stands behind
    /// somebody else's is given twice, so that what is given never equals what is wanted.
    pub fn forward_chains(&mut self, network: &NetworkName) -> Result<Vec<ForwardChain>, NftError> {
        let (chains, _) = self.steady("forward chains", foreign_chains)?;
        let ours = |chain: &ForeignChain| chain.rules.iter().any(|rule| rule.belongs_to(network));
        let chains = chains.into_iter().filter(|chain| chain.needs_accept() || ours(chain));
        Ok(chains.map(|chain| forward_chain(&chain, network)).collect())
    }

    /// Makes this network's rules in a foreign chain exactly these, at its head; nobody else's are touched.
    ///
    /// Succeeds where the chain is gone. Rules of a family that the chain doesn't see must not be asked for.
    #[expect(clippy::too_many_arguments, reason = "a chain is named by its table and its name")]
    pub fn set_accept(
        &mut self,
        table: &TableId,
        chain: &ChainName,
        network: &NetworkName,
        rules: &[Accept],
    ) -> Result<(), NftError> {
        let wanted: Vec<Rule> = rules.iter().map(|accept| accept_rule(accept, network)).collect();
        let look = |socket: &mut Socket| foreign_chains_of(socket, table.family);
        let decide = |chains: &Vec<ForeignChain>| {
            let found = chains.iter().find(|found| &found.table == table && &found.chain == chain);
            found.map_or_else(Transaction::default, |found| found.set_accept(network, &wanted))
        };
        self.settle("forward chains", look, decide).map(drop)
    }
}

fn foreign_chains(socket: &mut Socket) -> Result<Vec<ForeignChain>, Errno> {
    let mut chains = Vec::new();
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        chains.extend(foreign_chains_of(socket, family)?);
    }
    Ok(chains)
}

fn foreign_chains_of(socket: &mut Socket, family: Family) -> Result<Vec<ForeignChain>, Errno> {
    let mut chains = Vec::new();
    for chain in list::chains(socket, family)? {
        let Seen::Known(Some(base)) = chain.base else { continue };
        if base.hook != Hook::Forward || [AGENT_TABLE, PLUGIN_TABLE].contains(&chain.table.as_str()) {
            continue;
        }
        let table = TableId { family, name: chain.table };
        let rules = list::rules(socket, &table, Some(&chain.name))?;
        let rules = rules.into_iter().map(|listed| ForeignRule { handle: listed.handle, rule: listed.rule });
        let (chain, rules) = (chain.name, rules.collect());
        chains.push(ForeignChain { table, chain, policy: base.policy, rules });
    }
    Ok(chains)
}

/// `-s CIDR -m comment --comment "selvedge NETWORK" -j ACCEPT`
fn accept_rule(wanted: &Accept, network: &NetworkName) -> Rule {
    let test = match wanted.direction {
        Direction::From => saddr(wanted.cidr),
        Direction::To => daddr(wanted.cidr),
    };
    rule![test, counter(), accept()].comment(comment_of(network))
}

/// What a rule of ours accepts; `None` if it isn't one that [`accept_rule`] makes.
fn accepted(rule: &Rule) -> Option<Accept> {
    let [
        Statement::Match(Match { negated: false, test }),
        Statement::Counter,
        Statement::Verdict(Verdict::Accept),
    ] = rule.statements()
    else {
        return None;
    };
    let (end, cidr) = match test {
        Test::Ip(end, net) => (end, (*net).into()),
        Test::Ip6(end, net) => (end, (*net).into()),
        _ => return None,
    };
    let direction = match end {
        End::Source => Direction::From,
        End::Destination => Direction::To,
    };
    Some(Accept { cidr, direction })
}

fn forward_chain(chain: &ForeignChain, network: &NetworkName) -> ForwardChain {
    let everything = ipnet::Ipv4Net::default().into();
    // One that nobody wants stands for an edited rule.
    let edited = Accept { cidr: everything, direction: Direction::From };
    let in_force = chain.in_force(network);
    let mut ours = Vec::new();
    let mut seen: Vec<&Rule> = Vec::new();
    for listed in chain.rules.iter().filter(|listed| listed.belongs_to(network)) {
        let what = accepted(&listed.rule).unwrap_or(edited);
        let in_place = in_force.contains(&&listed.rule) && !seen.contains(&&listed.rule);
        ours.extend(std::iter::repeat_n(what, if in_place { 1 } else { 2 }));
        seen.push(&listed.rule);
    }
    ours.sort();
    ForwardChain { place: Place::Nft(chain.table.clone(), chain.chain.clone()), ours }
}
