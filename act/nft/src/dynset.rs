//! Updates of dynamic sets by packets, as netlink attributes.

use selvedge_ruleset::{Limit, SetName};
use selvedge_wire::{Reader, Writer};

use crate::expression::{DATA, Expression, NAME, slot};
use crate::logging::read_limit;

const SET: u16 = 1;
const OPERATION: u16 = 3;
const KEY: u16 = 4;
const VALUE: u16 = 5;
const TIMEOUT: u16 = 6;
const EXPRESSION: u16 = 7;
const FLAGS: u16 = 9;
const EXPRESSIONS: u16 = 10;
/// `NFT_DYNSET_OP_UPDATE`
const UPDATE: u32 = 1;

pub(crate) fn write(
    (register, set): (u32, &SetName),
    timeout: u64,
    limit: Option<&Limit>,
    data: &mut Writer,
) {
    data.text(SET, set.as_str());
    data.u32_be(OPERATION, UPDATE);
    data.u32_be(KEY, register);
    data.u64_be(TIMEOUT, timeout);
    if let Some(limit) = limit {
        data.nest(EXPRESSION, |nest| Expression::Limit(*limit).write_whole(nest));
    }
}

/// Only an update of a plain set's element, with nothing but a limit done to each packet.
pub(crate) fn read(data: Reader<'_>) -> Option<Expression> {
    let plain = data.u32_be(OPERATION)? == UPDATE
        && data.u32_be(FLAGS).unwrap_or(0) == 0
        && [VALUE, EXPRESSIONS].into_iter().all(|kind| data.get(kind).is_none());
    let limit = match data.nest(EXPRESSION) {
        None => None,
        Some(element) if element.text(NAME)? == "limit" => Some(read_limit(element.nest(DATA)?)?),
        Some(_) => return None,
    };
    let (slot, set) = (slot(data.u32_be(KEY)?)?, SetName::listed(data.text(SET)?));
    plain.then_some(Expression::Update { slot, set, timeout: data.u64_be(TIMEOUT)?, limit })
}
