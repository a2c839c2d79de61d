//! Datagrams that were recorded, read as if the kernel had just sent them.

use selvedge_ruleset::SetType;
use selvedge_wire::messages;

use crate::compile::meaning;
use crate::list::{read_base, read_rule, read_table, table_of};
use crate::message::{FAMILIES, kind};
use crate::socket::Received;
use crate::{conntrack, elements, packets};

/// What each message of a recorded datagram of nfnetlink says to this crate: the kernel's verdict, an object, or
/// `None` for what is passed over. Elements are read as those of the set that came last. For whoever looks into a
/// recording; never fails, whatever the bytes are.
pub fn recorded(datagram: &[u8]) -> Vec<Option<String>> {
    let mut set = None;
    let read = messages(datagram).map(|message| match message.verdict() {
        Some(verdict) => Some(format!("{verdict:?}")),
        None => object(&Received::of(&message)?, &mut set),
    });
    read.collect()
}

fn object(received: &Received, set: &mut Option<SetType>) -> Option<String> {
    let attributes = received.attributes();
    let what = match received.kind {
        kind::NEW_TABLE => format!("{:?}", read_table(attributes, 1)),
        kind::NEW_CHAIN => format!("{:?}", read_base(attributes)),
        kind::NEW_RULE => {
            let read = read_rule(meaning(&FAMILIES, &received.family)?, attributes)?;
            format!("{} {:?} {}", read.chain, read.handle, read.rule)
        }
        kind::NEW_SET => {
            *set = elements::read_type(attributes);
            format!("{set:?}")
        }
        kind::NEW_ELEMENT => {
            format!("{:?}", elements::read_set(set.clone()?, [attributes].into_iter())?)
        }
        packets::PACKET => format!("{:?}", packets::read(attributes)),
        conntrack::NEW => format!("{:?}", conntrack::addresses(attributes).collect::<Vec<_>>()),
        _ => return None,
    };
    Some(format!("{:?} {what}", table_of(received)))
}
