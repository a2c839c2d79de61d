//! A check of a whole table that needs no kernel: whether what its rules name is there and fits.

use crate::field::{Field, Needs};
use crate::matching::{Match, Test};
use crate::name::{ChainName, Family, SetName, TableId};
use crate::rule::{Rule, Statement, Verdict};
use crate::set::{Data, DataType};
use crate::table::{Chain, Kind, Table};
use crate::value::{EtherType, IpVersion, KeyType};

/// The kernel would refuse the table, or a rule in it could never match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misshapen {
    /// A rule looks into a set that the table doesn't have.
    #[error("`{rule}` looks into a set that isn't there")]
    NoSet {
        /// The rule.
        rule: Rule,
    },
    /// A rule looks up something else than the set holds.
    #[error("`{rule}` looks up something else than set {set} holds")]
    OtherType {
        /// The rule.
        rule: Rule,
        /// The set.
        set: SetName,
    },
    /// A rule or a map's element leads to a chain that the table doesn't have, or to one at a hook.
    #[error("chain {chain} is led to, and isn't there or is a base chain")]
    NoChain {
        /// The chain.
        chain: ChainName,
    },
    /// A rule looks at something that no packet of the table's family has.
    #[error("`{rule}` looks at what no packet of family {family} has")]
    OtherFamily {
        /// The rule.
        rule: Rule,
        /// The family.
        family: Family,
    },
    /// A rule rewrites addresses in a base chain that isn't for that.
    #[error("`{rule}` rewrites addresses outside a nat chain")]
    NoNat {
        /// The rule.
        rule: Rule,
    },
}

/// Finds the first thing that is wrong with a table, if there is one.
pub fn check(id: &TableId, table: &Table) -> Result<(), Misshapen> {
    for chain in table.chains.values() {
        for rule in chain.rules.iter() {
            check_rule(id.family, table, chain, rule)?;
        }
    }
    let elements = table.sets.values().flat_map(|set| set.elements().values());
    elements
        .filter_map(|element| match &element.data {
            Data::Verdict(verdict) => verdict.chain(),
            Data::Nothing | Data::Values(_) => None,
        })
        .try_for_each(|chain| check_target(table, chain))
}

fn check_target(table: &Table, chain: &ChainName) -> Result<(), Misshapen> {
    match table.chains.get(chain) {
        Some(Chain { base: None, .. }) => Ok(()),
        _ => Err(Misshapen::NoChain { chain: chain.clone() }),
    }
}

fn check_rule(family: Family, table: &Table, chain: &Chain, rule: &Rule) -> Result<(), Misshapen> {
    rule.chains().try_for_each(|chain| check_target(table, chain))?;
    for statement in rule.statements() {
        if !is_in(family, statement) {
            return Err(Misshapen::OtherFamily { rule: rule.clone(), family });
        }
        let rewrites = matches!(statement, Statement::Masquerade { .. } | Statement::DnatMap(..));
        if rewrites && chain.base.is_some_and(|base| base.kind != Kind::Nat) {
            return Err(Misshapen::NoNat { rule: rule.clone() });
        }
        let Some((key, set, data)) = lookup(statement) else { continue };
        let Some(found) = table.sets.get(set) else {
            return Err(Misshapen::NoSet { rule: rule.clone() });
        };
        let updates = matches!(statement, Statement::Update { .. });
        let key_fits = (!updates || found.set_type().dynamic.is_some())
            && key.iter().map(|field| field.key_type()).eq(found.set_type().key.iter().copied());
        if !key_fits || data.is_some_and(|data| data != found.set_type().data) {
            return Err(Misshapen::OtherType { rule: rule.clone(), set: set.clone() });
        }
    }
    Ok(())
}

/// The key, the set, and what the set must lead to, if that matters.
fn lookup(statement: &Statement) -> Option<(&[Field], &SetName, Option<DataType>)> {
    let address = |version: &IpVersion| match version {
        IpVersion::V4 => KeyType::Ipv4Addr,
        IpVersion::V6 => KeyType::Ipv6Addr,
    };
    match statement {
        Statement::Match(Match { test: Test::InSet(key, set), .. }) => Some((key, set, None)),
        Statement::Update { key, set, .. } => Some((key, set, Some(DataType::Nothing))),
        Statement::VerdictMap(key, map) => Some((key, map, Some(DataType::Verdict))),
        Statement::DnatMap(version, key, map) => {
            Some((key, map, Some(DataType::Values(vec![address(version), KeyType::InetService]))))
        }
        _ => None,
    }
}

/// Whether packets of the family have what the statement looks at.
fn is_in(family: Family, statement: &Statement) -> bool {
    let Needs { network, .. } = statement.needs();
    let network_fits = match family {
        Family::Ip => network.is_none_or(|network| network == EtherType::IP),
        Family::Ip6 => network.is_none_or(|network| network == EtherType::IP6),
        Family::Inet => network.is_none_or(|network| network != EtherType::ARP),
        Family::Arp => network.is_none_or(|network| network == EtherType::ARP),
        Family::Bridge | Family::Netdev => true,
    };
    let has_frame = matches!(family, Family::Bridge | Family::Netdev);
    let is_ip = matches!(family, Family::Ip | Family::Ip6 | Family::Inet);
    let of_frame = |field: &Field| matches!(field, Field::EtherSaddr | Field::EtherDaddr | Field::EtherType);
    let frame_fits = match statement {
        Statement::Match(Match { test, .. }) => match test {
            Test::EtherType(_) | Test::Ether(..) => has_frame,
            Test::NfProto(_) => family == Family::Inet,
            Test::SourceUnroutable | Test::DestinationType(_) => is_ip,
            Test::InSet(key, _) => has_frame || !key.iter().any(of_frame),
            _ => true,
        },
        Statement::VerdictMap(key, _) => has_frame || !key.iter().any(of_frame),
        Statement::Masquerade { .. } | Statement::DnatMap(..) => is_ip,
        Statement::Verdict(Verdict::Continue) | Statement::Unknown(_) => false,
        _ => true,
    };
    network_fits && frame_fits
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::matching::{ether_type, fib_saddr_missing, in_set, saddr};
    use crate::rule::{accept, goto, masquerade, update, vmap};
    use crate::set::Set;
    use crate::table::{Base, Hook};
    use crate::{Policy, rule};

    const INET: TableId = TableId::literal(Family::Inet, "t");
    const S: SetName = SetName::literal("s");
    const C: ChainName = ChainName::literal("c");

    fn with(rule: Rule) -> Table {
        let base = Base::filter(Hook::Input, 0).policy(Policy::Drop);
        Table::new().set(S, Set::of::<Ipv4Addr>([])).chain(C, Chain::base(base, [rule]))
    }

    #[test]
    fn a_rule_that_fits_its_table_is_well_shaped() {
        assert_eq!(check(&INET, &with(rule![in_set([Field::IpSaddr], &S), accept()])), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_found() {
        let found = |rule: Rule| check(&INET, &with(rule)).unwrap_err();
        let six = rule![in_set([Field::Ip6Saddr], &S), accept()];
        assert!(matches!(found(six), Misshapen::OtherType { .. }));
        assert!(matches!(found(rule![vmap([Field::IpSaddr], &S)]), Misshapen::OtherType { .. }));
        let gone = SetName::literal("gone");
        assert!(matches!(found(rule![in_set([Field::IpSaddr], &gone)]), Misshapen::NoSet { .. }));
        // Only a dynamic set has room for what packets bring.
        let refresh = rule![update([Field::IpSaddr], &S, std::time::Duration::from_secs(1))];
        assert!(matches!(found(refresh), Misshapen::OtherType { .. }));
        assert!(matches!(found(rule![goto(&C)]), Misshapen::NoChain { .. }));
        assert!(matches!(found(rule![masquerade()]), Misshapen::NoNat { .. }));
        assert!(matches!(found(rule![ether_type(EtherType::ARP), accept()]), Misshapen::OtherFamily { .. }));
        let six = ipnet::IpNet::from(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST));
        let ip = TableId::literal(Family::Ip, "t");
        assert!(check(&ip, &with(rule![saddr(six), accept()])).is_err());
        let bridge = TableId::literal(Family::Bridge, "t");
        assert!(check(&bridge, &with(rule![fib_saddr_missing(), accept()])).is_err());
    }

    #[test]
    fn a_map_leads_only_to_chains_that_are_there() {
        let map = Set::verdicts([(Ipv4Addr::LOCALHOST, Verdict::Goto(C))]);
        assert!(check(&INET, &Table::new().set(S, map.clone())).is_err());
        assert_eq!(check(&INET, &Table::new().set(S, map).chain(C, Chain::default())), Ok(()));
    }
}
