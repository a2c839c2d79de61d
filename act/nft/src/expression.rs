//! What rules are made of in the kernel: loads into registers, comparisons, and actions, as netlink attributes.

use selvedge_ruleset::{ChainName, Limit, Log, SetName, Verdict};
use selvedge_wire::{Reader, Writer};

use crate::load::{Source, meta, read_payload, read_random, write_load};
use crate::{dynset, logging};

/// A place among the sixteen registers of four bytes.
pub(crate) type Slot = u32;

/// One step of a rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    Load {
        source: Source,
        to: Slot,
    },
    SetMark {
        from: Slot,
    },
    Bitwise {
        from: Slot,
        to: Slot,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        slot: Slot,
        negated: bool,
        data: Vec<u8>,
    },
    Lookup(Lookup),
    /// Lets the element of a dynamic set last so many milliseconds from now on.
    Update {
        slot: Slot,
        set: SetName,
        timeout: u64,
        limit: Option<Limit>,
    },
    Log(Log),
    Limit(Limit),
    Verdict(Verdict),
    Counter,
    Masquerade {
        flags: u32,
    },
    Dnat {
        family: u32,
        address: Slot,
        port: Slot,
    },
    /// The comment match of iptables.
    Comment(String),
    /// Anything else, by its kernel name.
    Other(String),
}

/// A look into a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) slot: Slot,
    pub(crate) set: SetName,
    pub(crate) negated: bool,
    pub(crate) to: Option<To>,
}

/// Where a map's data go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Verdict,
    Slot(Slot),
}

const VERDICT_REGISTER: u32 = 0;
const LIST_ELEM: u16 = 1;
pub(crate) const NAME: u16 = 1;
pub(crate) const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const LOOKUP_INVERTED: u32 = 1;
const COMPARE_EQUAL: u32 = 0;
const COMPARE_UNEQUAL: u32 = 1;
const NAT_DNAT: u32 = 1;
/// `NFTA_COUNTER_PACKETS`
const COUNTER_PACKETS: u16 = 2;

/// The kernel's number for a slot: those at multiples of 16 bytes have a number of the older kind, and are listed by
/// that.
fn register(slot: Slot) -> u32 {
    if slot.is_multiple_of(4) { 1 + slot / 4 } else { 8 + slot }
}

pub(crate) fn slot(register: u32) -> Option<Slot> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

impl Expression {
    /// Appends the expression to a rule's list.
    pub(crate) fn write(&self, list: &mut Writer) {
        list.nest(LIST_ELEM, |element| self.write_whole(element));
    }

    /// Writes its name and its data.
    pub(crate) fn write_whole(&self, element: &mut Writer) {
        element.text(NAME, self.name());
        element.nest(DATA, |data| self.write_data(data));
    }

    fn name(&self) -> &str {
        match self {
            Self::Load { source: Source::Meta(_), .. } | Self::SetMark { .. } => "meta",
            Self::Load { source: Source::Ct(_), .. } => "ct",
            Self::Load { source: Source::Fib { .. }, .. } => "fib",
            Self::Load { source: Source::Payload(_), .. } => "payload",
            Self::Load { source: Source::Random { .. }, .. } => "numgen",
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup(_) => "lookup",
            Self::Update { .. } => "dynset",
            Self::Log(_) => "log",
            Self::Limit(_) => "limit",
            Self::Verdict(_) => "immediate",
            Self::Counter => "counter",
            Self::Masquerade { .. } => "masq",
            Self::Dnat { .. } => "nat",
            Self::Comment(_) => "match",
            Self::Other(name) => name,
        }
    }

    fn write_data(&self, data: &mut Writer) {
        match self {
            Self::Load { source, to } => write_load(*source, register(*to), data),
            Self::SetMark { from } => {
                data.u32_be(2, meta::MARK);
                data.u32_be(3, register(*from));
            }
            Self::Bitwise { from, to, mask, xor } => {
                data.u32_be(1, register(*from));
                data.u32_be(2, register(*to));
                data.u32_be(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                data.nest(4, |nest| nest.bytes(DATA_VALUE, mask));
                data.nest(5, |nest| nest.bytes(DATA_VALUE, xor));
            }
            Self::Compare { slot, negated, data: value } => {
                data.u32_be(1, register(*slot));
                data.u32_be(2, if *negated { COMPARE_UNEQUAL } else { COMPARE_EQUAL });
                data.nest(3, |nest| nest.bytes(DATA_VALUE, value));
            }
            Self::Lookup(Lookup { slot, set, negated, to }) => {
                data.text(1, set.as_str());
                data.u32_be(2, register(*slot));
                match to {
                    Some(To::Verdict) => data.u32_be(3, VERDICT_REGISTER),
                    Some(To::Slot(to)) => data.u32_be(3, register(*to)),
                    None => {}
                }
                if *negated {
                    data.u32_be(5, LOOKUP_INVERTED);
                }
            }
            Self::Update { slot, set, timeout, limit } => {
                dynset::write((register(*slot), set), *timeout, limit.as_ref(), data);
            }
            Self::Log(log) => logging::write_log(log, data),
            Self::Limit(limit) => logging::write_limit(limit, data),
            Self::Verdict(verdict) => {
                data.u32_be(1, VERDICT_REGISTER);
                data.nest(2, |nest| write_verdict(verdict, nest));
            }
            Self::Masquerade { flags: 0 } | Self::Counter | Self::Comment(_) | Self::Other(_) => {}
            Self::Masquerade { flags } => data.u32_be(1, *flags),
            Self::Dnat { family, address, port } => {
                data.u32_be(1, NAT_DNAT);
                data.u32_be(2, *family);
                data.u32_be(3, register(*address));
                data.u32_be(5, register(*port));
            }
        }
    }

    /// Reads the list of a rule's expressions.
    pub(crate) fn read_list(list: Reader<'_>) -> Vec<Self> {
        list.map(|(_, element)| {
            let element = Reader(element);
            let name = element.text(NAME).unwrap_or_default();
            let data = element.nest(DATA).unwrap_or(Reader(&[]));
            Self::read(&name, data).unwrap_or(Self::Other(name))
        })
        .collect()
    }

    /// How many packets the first counter of a list has counted.
    pub(crate) fn packets_of(mut list: Reader<'_>) -> Option<u64> {
        list.find_map(|(_, element)| {
            let element = Reader(element);
            let is_counter = element.text(NAME)? == "counter";
            element.nest(DATA).filter(|_| is_counter)?.u64_be(COUNTER_PACKETS)
        })
    }

    fn read(name: &str, data: Reader<'_>) -> Option<Self> {
        let slot_in = |kind| slot(data.u32_be(kind)?);
        let value_in = |kind| Some(data.nest(kind)?.get(DATA_VALUE)?.to_vec());
        Some(match name {
            "meta" if data.get(3).is_some() => match data.u32_be(2)? {
                meta::MARK => Self::SetMark { from: slot_in(3)? },
                _ => return None,
            },
            "meta" => Self::Load { source: Source::Meta(data.u32_be(2)?), to: slot_in(1)? },
            "ct" if data.get(3).is_none() => {
                Self::Load { source: Source::Ct(data.u32_be(2)?), to: slot_in(1)? }
            }
            "fib" => {
                let source = Source::Fib { result: data.u32_be(2)?, flags: data.u32_be(3)? };
                Self::Load { source, to: slot_in(1)? }
            }
            "payload" => Self::Load { source: read_payload(data)?, to: slot_in(1)? },
            "numgen" => Self::Load { source: read_random(data)?, to: slot_in(1)? },
            "bitwise" => {
                Self::Bitwise { from: slot_in(1)?, to: slot_in(2)?, mask: value_in(4)?, xor: value_in(5)? }
            }
            "cmp" => {
                let negated = match data.u32_be(2)? {
                    COMPARE_EQUAL => false,
                    COMPARE_UNEQUAL => true,
                    _ => return None,
                };
                Self::Compare { slot: slot_in(1)?, negated, data: value_in(3)? }
            }
            "lookup" => Self::Lookup(read_lookup(data)?),
            "dynset" => dynset::read(data)?,
            "log" => Self::Log(logging::read_log(data)?),
            "limit" => Self::Limit(logging::read_limit(data)?),
            "immediate" if data.u32_be(1)? == VERDICT_REGISTER => Self::Verdict(read_verdict(data.nest(2)?)?),
            "counter" => Self::Counter,
            "masq" if data.get(2).is_none() => Self::Masquerade { flags: data.u32_be(1).unwrap_or(0) },
            "nat" => read_dnat(data)?,
            "match" if data.text(1)? == "comment" => Self::Comment(data.text(3)?),
            _ => return None,
        })
    }
}

fn read_lookup(data: Reader<'_>) -> Option<Lookup> {
    let to = match data.u32_be(3) {
        None => None,
        Some(VERDICT_REGISTER) => Some(To::Verdict),
        Some(register) => Some(To::Slot(slot(register)?)),
    };
    let negated = match data.u32_be(5).unwrap_or(0) {
        0 => false,
        LOOKUP_INVERTED => true,
        _ => return None,
    };
    Some(Lookup { slot: slot(data.u32_be(2)?)?, set: SetName::listed(data.text(1)?), negated, to })
}

/// Only a rewrite of address and port, each by one register, as written here.
fn read_dnat(data: Reader<'_>) -> Option<Expression> {
    /// The kernel sets these itself: an address is given, a port is given.
    const IMPLIED: u32 = 3;
    let single =
        |first: u16, last: u16| data.u32_be(last).is_none_or(|last| data.u32_be(first) == Some(last));
    let plain = data.u32_be(1)? == NAT_DNAT && data.u32_be(7).unwrap_or(0) & !IMPLIED == 0;
    if !(plain && single(3, 4) && single(5, 6)) {
        return None;
    }
    Some(Expression::Dnat {
        family: data.u32_be(2)?,
        address: slot(data.u32_be(3)?)?,
        port: slot(data.u32_be(5)?)?,
    })
}

/// Writes a verdict as data of an element or of an immediate.
pub(crate) fn write_verdict(verdict: &Verdict, data: &mut Writer) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Continue => -1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    };
    data.nest(DATA_VERDICT, |nest| {
        nest.bytes(1, &code.to_be_bytes());
        if let Some(chain) = verdict.chain() {
            nest.text(2, chain.as_str());
        }
    });
}

/// Reads what [`write_verdict`] writes.
pub(crate) fn read_verdict(data: Reader<'_>) -> Option<Verdict> {
    let verdict = data.nest(DATA_VERDICT)?;
    let chain = || verdict.text(2).map(ChainName::listed);
    Some(match i32::from_be_bytes(verdict.get(1)?.try_into().ok()?) {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return None,
    })
}
