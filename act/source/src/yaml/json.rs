//! YAML values as JSON.

use serde_json::{Number, Value as Json};

use super::{Node, Value};

/// How much JSON may be made of a value: values and bytes of text. An API takes objects of 1.5 MB.
const MOST: usize = 1 << 21;

/// The value as JSON; `None` if that is more than anybody needs.
pub(super) fn of(node: &Node) -> Option<Json> {
    converted(node, &mut { MOST })
}

fn converted(node: &Node, room: &mut usize) -> Option<Json> {
    let text = match &node.value {
        Value::Text(text) | Value::Number(text) => text.len(),
        Value::Map(entries) => entries.keys().map(String::len).sum(),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Unread => 0,
    };
    *room = room.checked_sub(text + 1)?;
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => number(text),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(list) => list.iter().map(|node| converted(node, room)).collect::<Option<_>>()?,
        Value::Map(entries) => {
            let entry = |(key, node): (&String, &Node)| Some((key.clone(), converted(node, room)?));
            let entries = entries.iter().map(|(key, entry)| (key, &*entry.node));
            Json::Object(entries.map(entry).collect::<Option<_>>()?)
        }
        // Neither text nor a number, nor a list or mapping that something could be missing in.
        Value::Unread => Json::Bool(false),
    })
}

/// A number as YAML's core schema has it. One with leading zeros, which earlier versions of YAML read otherwise, is no
/// whole number in JSON: whoever wants one refuses it.
fn number(text: &str) -> Json {
    let radix = |prefix, radix| u64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    if let Some(whole) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return whole.into();
    }
    let is_plain = |digits: &str| digits == "0" || digits.starts_with(|c| matches!(c, '1'..='9'));
    match text.parse::<i64>() {
        Ok(whole) if is_plain(text.trim_start_matches(['+', '-'])) => whole.into(),
        _ => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| f64::MAX.into(), Json::Number)
        }
    }
}
