//! What the kernel lists, as values.

use std::collections::BTreeMap;

use rustix::io::Errno;
use selvedge_ruleset::listed::{Counted, Handle, ListedChain, ListedRule, ListedTable, Ownership, Seen};
use selvedge_ruleset::{Base, ChainName, Family, Listed, Rule, Set, SetName, SetType, TableId, TableName};
use selvedge_wire::flag::DUMP;
use selvedge_wire::{Reader, Socket, Writer};

use crate::compile::meaning;
use crate::decompile::decompile;
use crate::elements;
use crate::expression::Expression;
use crate::message::{
    FAMILIES, HOOKS, KINDS, POLICIES, TABLE_DORMANT, TABLE_OWNER, TABLE_PERSIST, attr, family, kind,
};
use crate::socket::{Received, ask, request};
use crate::userdata::read_comment;

/// The number of the present generation of rules: it changes with every transaction of anybody.
pub(crate) fn generation(socket: &mut Socket) -> Result<u32, Errno> {
    let answer = ask(socket, &request(kind::GET_GENERATION, 0, 0, |_| {}))?;
    Ok(answer.first().and_then(|answer| answer.attributes().u32_be(attr::GENERATION_ID)).unwrap_or(0))
}

/// How much of a table is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All of it.
    Elements,
    /// Of its sets only that they are there.
    Rules,
}

/// The tables with those ids, as far as they are there. `EINTR` if a dump was interrupted by a change.
pub(crate) fn tables(socket: &mut Socket, ids: &[TableId], depth: Depth) -> Result<Listed, Errno> {
    let mut listed = Listed::new();
    for id in ids {
        if let Some(mut table) = table(socket, id)? {
            fill(socket, id, &mut table, depth)?;
            listed.insert(id.clone(), table);
        }
    }
    Ok(listed)
}

/// A table without its content; `None` if it isn't there.
pub(crate) fn table(socket: &mut Socket, id: &TableId) -> Result<Option<ListedTable>, Errno> {
    let name = |w: &mut Writer| w.text(attr::TABLE_NAME, id.name.as_str());
    let answer = match ask(socket, &request(kind::GET_TABLE, 0, family(id.family), name)) {
        // The kernel says so too when the family is missing from it.
        Err(Errno::NOENT | Errno::AFNOSUPPORT) => return Ok(None),
        answer => answer?,
    };
    let portid = socket.port();
    Ok(answer.first().map(|answer| read_table(answer.attributes(), portid)))
}

pub(crate) fn read_table(table: Reader<'_>, portid: u32) -> ListedTable {
    let flags = table.u32_be(attr::TABLE_FLAGS).unwrap_or(0);
    let ownership = match table.u32_be(attr::TABLE_OWNER) {
        Some(owner) if flags & TABLE_OWNER != 0 && owner == portid => Ownership::Mine,
        Some(owner) if flags & TABLE_OWNER != 0 => Ownership::Other { portid: owner },
        _ if flags & TABLE_PERSIST != 0 => Ownership::Orphan,
        _ => Ownership::Shared,
    };
    ListedTable { ownership, dormant: flags & TABLE_DORMANT != 0, ..ListedTable::default() }
}

fn fill(socket: &mut Socket, id: &TableId, table: &mut ListedTable, depth: Depth) -> Result<(), Errno> {
    for chain in chains(socket, id.family)?.into_iter().filter(|chain| chain.table == id.name) {
        table.chains.insert(chain.name, ListedChain { base: chain.base, rules: Vec::new() });
    }
    for rule in rules(socket, id, None)? {
        if let Some(chain) = table.chains.get_mut(&rule.chain) {
            chain.rules.push(ListedRule { handle: rule.handle, rule: rule.rule });
        }
    }
    table.sets = sets(socket, id, depth)?;
    Ok(())
}

/// True if there is a chain of that name.
pub(crate) fn has_chain(socket: &mut Socket, id: &TableId, chain: &ChainName) -> Result<bool, Errno> {
    let get = request(kind::GET_CHAIN, 0, family(id.family), |w| {
        w.text(attr::CHAIN_TABLE, id.name.as_str());
        w.text(attr::CHAIN_NAME, chain.as_str());
    });
    match ask(socket, &get) {
        Ok(answer) => Ok(!answer.is_empty()),
        Err(Errno::NOENT | Errno::AFNOSUPPORT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A chain without its rules.
pub(crate) struct ReadChain {
    pub(crate) table: TableName,
    pub(crate) name: ChainName,
    pub(crate) base: Seen<Option<Base>>,
}

/// The chains of all tables of a family.
pub(crate) fn chains(socket: &mut Socket, family_of: Family) -> Result<Vec<ReadChain>, Errno> {
    let chains = dump(socket, kind::GET_CHAIN, family(family_of), |_| {})?;
    let read = |chain: &Received| {
        let chain = chain.attributes();
        let table = TableName::listed(chain.text(attr::CHAIN_TABLE)?);
        let name = ChainName::listed(chain.text(attr::CHAIN_NAME)?);
        Some(ReadChain { table, name, base: read_base(chain) })
    };
    Ok(chains.iter().filter_map(read).collect())
}

pub(crate) fn read_base(chain: Reader<'_>) -> Seen<Option<Base>> {
    let Some(hook) = chain.nest(attr::CHAIN_HOOK) else {
        return Seen::Known(None);
    };
    let base = || {
        let name = chain.text(attr::CHAIN_TYPE)?;
        Some(Base {
            kind: meaning(&KINDS, &name.as_str())?,
            hook: meaning(&HOOKS, &hook.u32_be(attr::HOOK_NUM)?)?,
            priority: i32::from_be_bytes(hook.get(attr::HOOK_PRIORITY)?.try_into().ok()?),
            policy: meaning(&POLICIES, &chain.u32_be(attr::CHAIN_POLICY)?)?,
        })
    };
    base().map_or_else(
        || Seen::Unknown("a hook that this program has no name for".to_owned()),
        |base| Seen::Known(Some(base)),
    )
}

/// A rule of some chain.
pub(crate) struct ReadRule {
    pub(crate) chain: ChainName,
    pub(crate) handle: Handle,
    pub(crate) rule: Rule,
}

/// The rules of a table, or of one chain of it, in their order.
pub(crate) fn rules(
    socket: &mut Socket,
    id: &TableId,
    chain: Option<&ChainName>,
) -> Result<Vec<ReadRule>, Errno> {
    let rules = dump(socket, kind::GET_RULE, family(id.family), |w| {
        w.text(attr::RULE_TABLE, id.name.as_str());
        if let Some(chain) = chain {
            w.text(attr::RULE_CHAIN, chain.as_str());
        }
    })?;
    Ok(rules.iter().filter_map(|rule| read_rule(id.family, rule.attributes())).collect())
}

pub(crate) fn read_rule(family: Family, attributes: Reader<'_>) -> Option<ReadRule> {
    let list = attributes.nest(attr::RULE_EXPRESSIONS).unwrap_or(Reader(&[]));
    let mut rule = decompile(family, &Expression::read_list(list));
    if let Some(comment) = attributes.get(attr::RULE_USERDATA).and_then(read_comment) {
        rule = rule.comment(comment.as_str());
    }
    let chain = ChainName::listed(attributes.text(attr::RULE_CHAIN)?);
    Some(ReadRule { chain, handle: Handle(attributes.u64_be(attr::RULE_HANDLE)?), rule })
}

/// The rules of a table that count, with their counts.
pub(crate) fn counted(socket: &mut Socket, id: &TableId) -> Result<Vec<Counted>, Errno> {
    let rules = dump(socket, kind::GET_RULE, family(id.family), |w| {
        w.text(attr::RULE_TABLE, id.name.as_str());
    })?;
    Ok(rules.iter().filter_map(|rule| read_counted(id.family, rule.attributes())).collect())
}

/// A rule that counts, with its count.
pub(crate) fn read_counted(family: Family, attributes: Reader<'_>) -> Option<Counted> {
    let packets = Expression::packets_of(attributes.nest(attr::RULE_EXPRESSIONS)?)?;
    let ReadRule { chain, handle, rule } = read_rule(family, attributes)?;
    Some(Counted { chain, handle, rule, packets })
}

fn sets(socket: &mut Socket, id: &TableId, depth: Depth) -> Result<BTreeMap<SetName, Seen<Set>>, Errno> {
    let listed =
        dump(socket, kind::GET_SET, family(id.family), |w| w.text(attr::SET_TABLE, id.name.as_str()))?;
    let mut sets = BTreeMap::new();
    for set in &listed {
        let Some(name) = set.attributes().text(attr::SET_NAME) else { continue };
        // Sets of a rule's own come and go with the rule, which already shows that it isn't ours.
        if name.starts_with("__") {
            continue;
        }
        if depth == Depth::Rules {
            sets.insert(SetName::listed(name), Seen::Unknown("a set that was not looked into".to_owned()));
            continue;
        }
        let name = SetName::listed(name);
        let read = match elements::read_type(set.attributes()) {
            Some(set_type) => elements_of(socket, id, &name, &set_type)?,
            None => None,
        };
        let unknown = || Seen::Unknown("a set of a type that this program has no name for".to_owned());
        sets.insert(name, read.map_or_else(unknown, Seen::Known));
    }
    Ok(sets)
}

/// A set of that type with its elements; `None` if one can't be read.
pub(crate) fn elements_of(
    socket: &mut Socket,
    id: &TableId,
    name: &SetName,
    set_type: &SetType,
) -> Result<Option<Set>, Errno> {
    let lists = dump(socket, kind::GET_ELEMENT, family(id.family), |w| {
        w.text(attr::SET_TABLE, id.name.as_str());
        w.text(attr::SET_NAME, name.as_str());
    })?;
    Ok(elements::read_set(set_type.clone(), lists.iter().map(Received::attributes)))
}

fn dump(
    socket: &mut Socket,
    kind: u16,
    family: u8,
    write: impl FnOnce(&mut Writer),
) -> Result<Vec<Received>, Errno> {
    match ask(socket, &request(kind, DUMP, family, write)) {
        Err(Errno::NOENT) => Ok(Vec::new()),
        answer => answer,
    }
}

/// The table that a notification is about.
pub(crate) fn table_of(message: &Received) -> Option<TableId> {
    let family = meaning(&FAMILIES, &message.family)?;
    // Every kind of object has its table's name in its first attribute.
    Some(TableId { family, name: TableName::listed(message.attributes().text(attr::TABLE_NAME)?) })
}
