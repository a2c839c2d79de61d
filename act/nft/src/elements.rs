//! Sets and their elements as netlink attributes.
//!
//! A set of ranges with a single part has two elements in the kernel for each of ours: where the range starts, and,
//! marked, where it has ended. One with several parts has one, with both keys.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_ruleset::set::Key;
use selvedge_ruleset::value::{KeyType, Part, Value};
use selvedge_ruleset::{Data, DataType, Element, Elements, Set, SetType, TableId};
use selvedge_wire::flag::CREATE;
use selvedge_wire::{Reader, Request, Writer};

use crate::compile::{meaning, number};
use crate::expression::{read_verdict, write_verdict};
use crate::message::{attr, family};
use crate::place::{bytes, length, value};
use crate::socket::request;
use crate::userdata::{read_comment, write_comment};

const FLAG_CONSTANT: u32 = 2;
const FLAG_INTERVAL: u32 = 4;
const FLAG_MAP: u32 = 8;
const FLAG_TIMEOUT: u32 = 16;
const FLAG_EVAL: u32 = 32;
const FLAG_CONCAT: u32 = 128;

const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const SET_USERDATA: u16 = 13;
const SET_EXPRESSION: [u16; 2] = [17, 18];
const DESCRIPTION_SIZE: u16 = 1;
const DESCRIPTION_CONCAT: u16 = 2;
const FIELD_LENGTH: u16 = 1;
const LIST_ELEM: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_USERDATA: u16 = 6;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const FLAG_INTERVAL_END: u32 = 1;
/// `NFT_DATA_VERDICT`
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// nft's numbers for types have six bits, so that a concatenation's number tells its parts.
const TYPE_BITS: u32 = 6;

/// nft's number of each type, kept in the kernel for whoever lists the set.
const TYPES: [(KeyType, u32); 8] = [
    (KeyType::Ipv4Addr, 7),
    (KeyType::Ipv6Addr, 8),
    (KeyType::EtherAddr, 9),
    (KeyType::EtherType, 10),
    (KeyType::InetProto, 12),
    (KeyType::InetService, 13),
    (KeyType::Mark, 19),
    (KeyType::IfName, 41),
];

/// nft's note to itself in which order of bytes it should read the key: without it, it prints names as "".
const USERDATA_KEY_ORDER: u8 = 0;
const ORDER_HOST: u32 = 1;

/// Elements in one message: attributes hold less than 64 KiB, and an element less than 400 bytes.
const PER_MESSAGE: usize = 80;

fn padded(key_type: KeyType) -> u32 {
    length(key_type).next_multiple_of(4)
}

fn type_number(types: &[KeyType]) -> u32 {
    types.iter().fold(0, |number_so_far, key_type| number_so_far << TYPE_BITS | number(&TYPES, key_type))
}

/// The parts of a concatenation's bytes: each is padded, the only part of a plain key is not.
fn type_length(types: &[KeyType]) -> u32 {
    match types {
        [single] => length(*single),
        several => several.iter().map(|key_type| padded(*key_type)).sum(),
    }
}

fn numbered_types(mut number: u32) -> Option<Vec<KeyType>> {
    let mut types = Vec::new();
    while number != 0 {
        types.insert(0, meaning(&TYPES, &(number & ((1 << TYPE_BITS) - 1)))?);
        number >>= TYPE_BITS;
    }
    (!types.is_empty()).then_some(types)
}

/// Writes what a new set is.
pub(crate) fn write_type(set_type: &SetType, w: &mut Writer) {
    let concat = set_type.key.len() > 1;
    let flags = [
        (set_type.interval, FLAG_INTERVAL),
        (set_type.interval && concat, FLAG_CONCAT),
        (set_type.is_map(), FLAG_MAP),
        (set_type.timeout, FLAG_TIMEOUT),
        (set_type.dynamic.is_some(), FLAG_EVAL),
    ];
    w.u32_be(SET_FLAGS, flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    w.u32_be(SET_KEY_TYPE, type_number(&set_type.key));
    w.u32_be(SET_KEY_LENGTH, type_length(&set_type.key));
    match &set_type.data {
        DataType::Nothing => {}
        DataType::Verdict => w.u32_be(SET_DATA_TYPE, TYPE_VERDICT),
        DataType::Values(types) => {
            w.u32_be(SET_DATA_TYPE, type_number(types));
            w.u32_be(SET_DATA_LENGTH, type_length(types));
        }
    }
    // A number by which the batch could refer to it; names do as well, but the kernel insists.
    w.u32_be(SET_ID, 1);
    if let [KeyType::IfName | KeyType::Mark] = set_type.key[..] {
        w.bytes(SET_USERDATA, &[&[USERDATA_KEY_ORDER, 4][..], &ORDER_HOST.to_ne_bytes()].concat());
    }
    // The kernel wants to know the parts only where it must compare each by itself.
    let parts = set_type.interval && concat;
    if !parts && set_type.dynamic.is_none() {
        return;
    }
    w.nest(SET_DESCRIPTION, |description| {
        if let Some(size) = set_type.dynamic {
            description.u32_be(DESCRIPTION_SIZE, size.get());
        }
        if parts {
            description.nest(DESCRIPTION_CONCAT, |fields| {
                for key_type in &set_type.key {
                    fields.nest(LIST_ELEM, |field| field.u32_be(FIELD_LENGTH, length(*key_type)));
                }
            });
        }
    });
}

/// Reads what a listed set is; `None` if it is beyond our types.
pub(crate) fn read_type(set: Reader<'_>) -> Option<SetType> {
    let flags = set.u32_be(SET_FLAGS).unwrap_or(0);
    let understood = FLAG_CONSTANT | FLAG_INTERVAL | FLAG_MAP | FLAG_TIMEOUT | FLAG_EVAL | FLAG_CONCAT;
    let own_timeout = set.u64_be(SET_TIMEOUT).unwrap_or(0) != 0;
    if flags & !understood != 0 || own_timeout || SET_EXPRESSION.iter().any(|kind| set.get(*kind).is_some()) {
        return None;
    }
    let data = match set.u32_be(SET_DATA_TYPE).filter(|_| flags & FLAG_MAP != 0) {
        None => DataType::Nothing,
        Some(TYPE_VERDICT) => DataType::Verdict,
        Some(types) => DataType::Values(numbered_types(types)?),
    };
    let key = numbered_types(set.u32_be(SET_KEY_TYPE)?)?;
    let fits = set.u32_be(SET_KEY_LENGTH)? == type_length(&key);
    let (interval, timeout) = (flags & FLAG_INTERVAL != 0, flags & FLAG_TIMEOUT != 0);
    let dynamic = match flags & FLAG_EVAL {
        0 => None,
        _ => Some(NonZeroU32::new(set.nest(SET_DESCRIPTION)?.u32_be(DESCRIPTION_SIZE)?)?),
    };
    fits.then_some(SetType { key, interval, timeout, dynamic, data })
}

/// The messages that add or delete elements.
pub(crate) fn messages(table: &TableId, kind: u16, elements: &Elements) -> Vec<Request> {
    let all: Vec<(&Key, &Element)> = elements.elements.iter().collect();
    let part = |part: &[(&Key, &Element)]| {
        request(kind, CREATE, family(table.family), |w| {
            w.text(attr::SET_TABLE, table.name.as_str());
            w.text(LIST_SET, elements.set.as_str());
            w.nest(LIST_ELEMENTS, |list| {
                part.iter().for_each(|(key, element)| write_element(&elements.set_type, key, element, list));
            });
        })
    };
    all.chunks(PER_MESSAGE).map(part).collect()
}

fn write_element(set_type: &SetType, key: &[Part], element: &Element, list: &mut Writer) {
    let first = key_bytes(set_type, key.iter().map(Part::first));
    let last = key_bytes(set_type, key.iter().map(Part::last));
    let single = key.len() == 1;
    list.nest(LIST_ELEM, |w| {
        w.nest(ELEMENT_KEY, |nest| nest.bytes(DATA_VALUE, &first));
        if set_type.interval && !single {
            w.nest(ELEMENT_KEY_END, |nest| nest.bytes(DATA_VALUE, &last));
        }
        match &element.data {
            Data::Nothing => {}
            Data::Verdict(verdict) => w.nest(ELEMENT_DATA, |nest| write_verdict(verdict, nest)),
            Data::Values(values) => {
                w.nest(ELEMENT_DATA, |nest| nest.bytes(DATA_VALUE, &joined(values.iter())))
            }
        }
        if let Some(timeout) = element.timeout {
            w.u64_be(ELEMENT_TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        }
        if let Some(comment) = &element.comment {
            w.bytes(ELEMENT_USERDATA, &write_comment(comment));
        }
    });
    if !(set_type.interval && single) {
        return;
    }
    // A range up to the very last value has no end.
    if let Some(end) = successor(&last) {
        list.nest(LIST_ELEM, |w| {
            w.nest(ELEMENT_KEY, |nest| nest.bytes(DATA_VALUE, &end));
            w.u32_be(ELEMENT_FLAGS, FLAG_INTERVAL_END);
        });
    }
}

fn key_bytes<'a>(set_type: &SetType, values: impl ExactSizeIterator<Item = &'a Value>) -> Vec<u8> {
    let mut bytes = joined(values);
    if set_type.interval && set_type.key == [KeyType::Mark] {
        // Ranges are compared from the first byte on.
        bytes.reverse();
    }
    bytes
}

fn joined<'a>(values: impl ExactSizeIterator<Item = &'a Value>) -> Vec<u8> {
    let single = values.len() == 1;
    let mut all = Vec::new();
    for value in values {
        all.extend(bytes(value));
        if !single {
            all.resize(all.len().next_multiple_of(4), 0);
        }
    }
    all
}

fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

fn predecessor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut before = bytes.to_vec();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            return Some(before);
        }
    }
    None
}

/// What one element of the kernel's list says.
struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    is_end: bool,
    element: Element,
}

/// Reads a set's elements from the lists that a dump brought; `None` if one is beyond our types.
pub(crate) fn read_set<'a>(set_type: SetType, lists: impl Iterator<Item = Reader<'a>>) -> Option<Set> {
    let elements = lists.filter_map(|list| list.nest(LIST_ELEMENTS)).flatten();
    let mut raw =
        elements.map(|(_, element)| read_element(&set_type, Reader(element))).collect::<Option<Vec<_>>>()?;
    let mut elements = BTreeMap::new();
    if !(set_type.interval && set_type.key.len() == 1) {
        for element in raw {
            let last = element.key_end.as_deref().unwrap_or(&element.key);
            elements.insert(read_key(&set_type, &element.key, last)?, element.element);
        }
        return Set::listed(set_type, elements);
    }
    // By where they are, an end before the start of the next range.
    raw.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut raw = raw.into_iter().peekable();
    while let Some(start) = raw.next() {
        if start.is_end {
            // The end of what is before the first range: nft writes it, it says nothing.
            continue;
        }
        let last = match raw.next_if(|next| next.is_end) {
            Some(end) => predecessor(&end.key)?,
            None => vec![u8::MAX; start.key.len()],
        };
        elements.insert(read_key(&set_type, &start.key, &last)?, start.element);
    }
    Set::listed(set_type, elements)
}

fn read_element(set_type: &SetType, element: Reader<'_>) -> Option<Raw> {
    let is_end = match element.u32_be(ELEMENT_FLAGS).unwrap_or(0) {
        0 => false,
        FLAG_INTERVAL_END => true,
        _ => return None,
    };
    let data = match (&set_type.data, element.nest(ELEMENT_DATA)) {
        (DataType::Verdict, Some(data)) => Data::Verdict(read_verdict(data)?),
        (DataType::Values(types), Some(data)) => Data::Values(read_values(types, data.get(DATA_VALUE)?)?),
        _ => Data::Nothing,
    };
    let timeout = element.u64_be(ELEMENT_TIMEOUT).filter(|&millis| millis != 0).map(Duration::from_millis);
    let key_in = |kind| Some(element.nest(kind)?.get(DATA_VALUE)?.to_vec());
    Some(Raw {
        key: key_in(ELEMENT_KEY)?,
        key_end: key_in(ELEMENT_KEY_END),
        is_end,
        element: Element { data, timeout, comment: element.get(ELEMENT_USERDATA).and_then(read_comment) },
    })
}

fn read_key(set_type: &SetType, first: &[u8], last: &[u8]) -> Option<Key> {
    let (mut first, mut last) = (first.to_vec(), last.to_vec());
    if set_type.interval && set_type.key == [KeyType::Mark] {
        first.reverse();
        last.reverse();
    }
    let (first, last) = (read_values(&set_type.key, &first)?, read_values(&set_type.key, &last)?);
    first.into_iter().zip(last).map(|(first, last)| Part::range(first, last)).collect()
}

fn read_values(types: &[KeyType], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for key_type in types {
        let size = usize::try_from(length(*key_type)).ok()?;
        values.push(value(*key_type, bytes.get(..size)?)?);
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(values)
}
