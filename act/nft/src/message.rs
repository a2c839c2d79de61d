//! Commands as nfnetlink messages.

use selvedge_ruleset::{Base, ChainName, Change, Command, Family, Hook, Kind, Policy, Rule};
use selvedge_wire::flag::{APPEND, CREATE};
use selvedge_wire::{Request, Writer};

use crate::compile::compile;
use crate::elements;
use crate::socket::request;
use crate::userdata::write_comment;

const SUBSYSTEM: u16 = 10 << 8;

/// `enum nf_tables_msg_types`, with the subsystem.
pub(crate) mod kind {
    use super::SUBSYSTEM;
    pub(crate) const NEW_TABLE: u16 = SUBSYSTEM;
    pub(crate) const GET_TABLE: u16 = SUBSYSTEM | 1;
    pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
    pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
    pub(crate) const GET_CHAIN: u16 = SUBSYSTEM | 4;
    pub(crate) const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
    pub(crate) const GET_RULE: u16 = SUBSYSTEM | 7;
    pub(crate) const DELETE_RULE: u16 = SUBSYSTEM | 8;
    pub(crate) const NEW_SET: u16 = SUBSYSTEM | 9;
    pub(crate) const GET_SET: u16 = SUBSYSTEM | 10;
    pub(crate) const DELETE_SET: u16 = SUBSYSTEM | 11;
    pub(crate) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
    pub(crate) const GET_ELEMENT: u16 = SUBSYSTEM | 13;
    pub(crate) const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
    pub(crate) const NEW_GENERATION: u16 = SUBSYSTEM | 15;
    pub(crate) const GET_GENERATION: u16 = SUBSYSTEM | 16;
    /// `NFNL_MSG_BATCH_BEGIN`, of no subsystem.
    pub(crate) const BATCH_BEGIN: u16 = 16;
    /// `NFNL_MSG_BATCH_END`, of no subsystem.
    pub(crate) const BATCH_END: u16 = 17;
}

/// Attributes of each kind of object, by the kernel's names less their prefix.
pub(crate) mod attr {
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;
    pub(crate) const TABLE_OWNER: u16 = 7;
    pub(crate) const CHAIN_TABLE: u16 = 1;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const HOOK_NUM: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const RULE_TABLE: u16 = 1;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_HANDLE: u16 = 3;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_POSITION: u16 = 6;
    pub(crate) const RULE_USERDATA: u16 = 7;
    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const GENERATION_ID: u16 = 1;
    pub(crate) const GENERATION_PID: u16 = 2;
    pub(crate) const GENERATION_NAME: u16 = 3;
}

/// `NFT_TABLE_F_DORMANT`
pub(crate) const TABLE_DORMANT: u32 = 1;
/// `NFT_TABLE_F_OWNER`
pub(crate) const TABLE_OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`
pub(crate) const TABLE_PERSIST: u32 = 4;
/// The kernel's number of each family.
pub(crate) const FAMILIES: [(Family, u8); 6] = [
    (Family::Inet, 1),
    (Family::Ip, 2),
    (Family::Arp, 3),
    (Family::Netdev, 5),
    (Family::Bridge, 7),
    (Family::Ip6, 10),
];

/// The kernel's number of each hook, in the IP families and `bridge`.
pub(crate) const HOOKS: [(Hook, u32); 5] =
    [(Hook::Prerouting, 0), (Hook::Input, 1), (Hook::Forward, 2), (Hook::Output, 3), (Hook::Postrouting, 4)];

/// The kernel's name of each kind of chain.
pub(crate) const KINDS: [(Kind, &str); 3] =
    [(Kind::Filter, "filter"), (Kind::Nat, "nat"), (Kind::Route, "route")];

/// The kernel's number of each policy.
pub(crate) const POLICIES: [(Policy, u32); 2] = [(Policy::Drop, 0), (Policy::Accept, 1)];

/// The kernel's number of a family.
pub(crate) fn family(family: Family) -> u8 {
    crate::compile::number(&FAMILIES, &family)
}

/// The messages of a command: one, but for long lists of elements.
pub(crate) fn messages(command: &Command) -> Vec<Request> {
    let table = &command.table;
    let message = |kind, flags, write: &dyn Fn(&mut Writer)| {
        vec![request(kind, flags, family(table.family), |w| {
            w.text(attr::TABLE_NAME, table.name.as_str());
            write(w);
        })]
    };
    match &command.change {
        Change::AddTable { owned } => {
            let flags = if *owned { TABLE_OWNER | TABLE_PERSIST } else { 0 };
            message(kind::NEW_TABLE, CREATE, &|w| w.u32_be(attr::TABLE_FLAGS, flags))
        }
        Change::DeleteTable => message(kind::DELETE_TABLE, 0, &|_| {}),
        Change::AddChain(chain, base) => message(kind::NEW_CHAIN, CREATE, &|w| write_chain(chain, *base, w)),
        Change::DeleteChain(chain) => {
            message(kind::DELETE_CHAIN, 0, &|w| w.text(attr::CHAIN_NAME, chain.as_str()))
        }
        Change::FlushChain(chain) => {
            message(kind::DELETE_RULE, 0, &|w| w.text(attr::RULE_CHAIN, chain.as_str()))
        }
        Change::AddRule { chain, before, rule } => {
            // With APPEND the position is the rule to come after, without it the rule to come before.
            let flags = if before.is_some() { CREATE } else { CREATE | APPEND };
            message(kind::NEW_RULE, flags, &|w| {
                w.text(attr::RULE_CHAIN, chain.as_str());
                if let Some(handle) = before {
                    w.u64_be(attr::RULE_POSITION, handle.0);
                }
                write_rule(table.family, rule, w);
            })
        }
        Change::DeleteRule(chain, handle) => message(kind::DELETE_RULE, 0, &|w| {
            w.text(attr::RULE_CHAIN, chain.as_str());
            w.u64_be(attr::RULE_HANDLE, handle.0);
        }),
        Change::AddSet(set, set_type) => message(kind::NEW_SET, CREATE, &|w| {
            w.text(attr::SET_NAME, set.as_str());
            elements::write_type(set_type, w);
        }),
        Change::DeleteSet(set) => message(kind::DELETE_SET, 0, &|w| w.text(attr::SET_NAME, set.as_str())),
        Change::AddElements(added) => elements::messages(table, kind::NEW_ELEMENT, added),
        Change::DeleteElements(deleted) => elements::messages(table, kind::DELETE_ELEMENT, deleted),
    }
}

fn write_chain(chain: &ChainName, base: Option<Base>, w: &mut Writer) {
    use crate::compile::number;
    w.text(attr::CHAIN_NAME, chain.as_str());
    let Some(base) = base else { return };
    w.nest(attr::CHAIN_HOOK, |hook| {
        hook.u32_be(attr::HOOK_NUM, number(&HOOKS, &base.hook));
        hook.bytes(attr::HOOK_PRIORITY, &base.priority.to_be_bytes());
    });
    w.u32_be(attr::CHAIN_POLICY, number(&POLICIES, &base.policy));
    w.text(attr::CHAIN_TYPE, number(&KINDS, &base.kind));
}

fn write_rule(family: Family, rule: &Rule, w: &mut Writer) {
    w.nest(attr::RULE_EXPRESSIONS, |list| {
        compile(family, rule).iter().for_each(|expression| expression.write(list));
    });
    if let Some(comment) = rule.comment_text() {
        w.bytes(attr::RULE_USERDATA, &write_comment(comment));
    }
}
