//! Reading the fields of a document, each with its path.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::Value as Json;

use super::{Fault, Located, Node, Position, Value, json};

/// A value and the path that led to it.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    path: String,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// The document or object that paths start from.
    pub fn root(node: &'a Node) -> Self {
        Self { path: String::new(), node }
    }

    /// Where the value begins.
    pub fn at(&self) -> Position {
        self.node.at
    }

    /// True for a document or field that holds nothing.
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// The field of that name; one that holds nothing is as good as none. Fails unless this is a mapping.
    pub fn get(&self, key: &str) -> Result<Option<Field<'a>>, Located> {
        let Value::Map(entries) = &self.node.value else { return Err(self.must_be("a mapping")) };
        let entry = entries.get(key).filter(|entry| entry.node.value != Value::Null);
        Ok(entry.map(|entry| Field { path: self.path_of(key), node: &entry.node }))
    }

    /// The field of that name, which must be there.
    pub fn require(&self, key: &str) -> Result<Field<'a>, Located> {
        let missing = || Located { at: self.node.at, path: self.path_of(key), fault: Fault::Missing };
        self.get(key)?.ok_or_else(missing)
    }

    /// The mapping's keys and values, sorted by key.
    pub fn entries(&self) -> Result<impl Iterator<Item = (&'a str, Field<'a>)> + use<'a, '_>, Located> {
        let Value::Map(entries) = &self.node.value else { return Err(self.must_be("a mapping")) };
        Ok(entries.iter().map(|(key, entry)| (&**key, Field { path: self.path_of(key), node: &entry.node })))
    }

    /// The list's items.
    pub fn items(&self) -> Result<impl Iterator<Item = Field<'a>> + use<'a, '_>, Located> {
        let Value::List(list) = &self.node.value else { return Err(self.must_be("a list")) };
        Ok(list.iter().enumerate().map(|(i, node)| Field { path: format!("{}[{i}]", self.path), node }))
    }

    /// The value as text; numbers and booleans must be quoted to be text.
    pub fn text(&self) -> Result<&'a str, Located> {
        let Value::Text(text) = &self.node.value else { return Err(self.must_be("text")) };
        Ok(text)
    }

    /// The value as text, quoted or not.
    pub fn scalar(&self) -> Result<&'a str, Located> {
        match &self.node.value {
            Value::Text(text) | Value::Number(text) => Ok(text),
            Value::Bool(true) => Ok("true"),
            Value::Bool(false) => Ok("false"),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Unread => Err(self.must_be("text")),
        }
    }

    /// The value as `true` or `false`.
    pub fn boolean(&self) -> Result<bool, Located> {
        let Value::Bool(value) = self.node.value else { return Err(self.must_be("true or false")) };
        Ok(value)
    }

    /// The value as a whole number that isn't negative.
    pub fn number(&self) -> Result<u32, Located> {
        let Value::Number(text) = &self.node.value else { return Err(self.must_be("a number")) };
        text.parse().map_err(|_not_u32| self.refuse(text, "is no whole number from 0 to 4294967295"))
    }

    /// The value as a name or other text that explains itself what is wrong with it.
    pub fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, Located> {
        self.text()?.parse().map_err(|error: T::Err| self.fault(Fault::Refused(error.to_string())))
    }

    /// The value as an IP address.
    pub fn address(&self) -> Result<IpAddr, Located> {
        let text = self.text()?;
        text.parse().map_err(|_no_address| self.refuse(text, "is no IP address"))
    }

    /// The value as a CIDR whose host bits are zero.
    pub fn cidr(&self) -> Result<IpNet, Located> {
        let text = self.text()?;
        let net: IpNet = text.parse().map_err(|_no_cidr| self.refuse(text, "is no CIDR"))?;
        if net != net.trunc() {
            return Err(self.refuse(text, format!("has host bits set; the network is {}", net.trunc())));
        }
        Ok(net)
    }

    /// The value as JSON, for readers of that.
    ///
    /// Where something was left out is what none of them takes for anything. Fails where aliases make more of a text
    /// than any API would take.
    pub fn json(&self) -> Result<Json, Located> {
        json::of(self.node).ok_or_else(|| self.fault(Fault::TooLarge))
    }

    /// Where the value of a path that begins with this one's is written, or as much of the way there as is.
    pub fn position_of(&self, path: &str) -> Position {
        let leads = |field: &Field<'_>| {
            let rest = path.strip_prefix(&field.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let next = match &self.node.value {
            Value::List(_) => self.items().ok().and_then(|mut items| items.find(leads)),
            Value::Map(_) => {
                self.entries().ok().and_then(|entries| entries.map(|(_, field)| field).find(leads))
            }
            _ => None,
        };
        next.map_or(self.node.at, |field| field.position_of(path))
    }

    /// Fails at the first key, as written, that is none of `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Located> {
        let Value::Map(entries) = &self.node.value else { return Err(self.must_be("a mapping")) };
        let unknown = entries.iter().filter(|(key, _)| !known.contains(&&***key));
        match unknown.min_by_key(|(_, entry)| entry.at) {
            None => Ok(()),
            Some((key, entry)) => {
                let fault = Fault::UnknownKey { known: known.join(", ") };
                Err(Located { at: entry.at, path: self.path_of(key), fault })
            }
        }
    }

    /// The fault that the value breaks a rule; `rule` goes on with the sentence that the value begins.
    pub fn refuse(&self, value: &str, rule: impl Into<String>) -> Located {
        self.fault(Fault::Value { value: value.to_owned(), rule: rule.into() })
    }

    /// A fault of this field.
    pub fn fault(&self, fault: Fault) -> Located {
        Located { at: self.node.at, path: self.path.clone(), fault }
    }

    fn must_be(&self, expected: &'static str) -> Located {
        self.fault(Fault::Kind { expected, found: self.node.value.kind() })
    }

    fn path_of(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
        match (plain, self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{key:?}]", self.path),
        }
    }
}
