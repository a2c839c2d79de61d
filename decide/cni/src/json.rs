//! Reading JSON the way its other readers do: keys in any case, `null` as absent, floats for integers; and saying
//! exactly which value was wrong.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::error::{CniError, code};

/// How much of a wrong value an error shows, in characters.
const SHOWN: usize = 120;

/// An object and the path that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Object<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

/// A value that is there, and the path that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    path: String,
}

/// The value of a key. The exact spelling wins over others, the last of several others wins, `null` counts as absent.
fn find<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let exact = map.get(key).filter(|v| !v.is_null());
    exact.or_else(|| map.iter().rfind(|(k, v)| k.eq_ignore_ascii_case(key) && !v.is_null()).map(|(_, v)| v))
}

/// The key as it is spelled in the map, where it is there, `null` or not.
pub(crate) fn spelling<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let exact = map.get_key_value(key).map(|(k, _)| k.as_str());
    exact.or_else(|| map.keys().map(String::as_str).rfind(|k| k.eq_ignore_ascii_case(key)))
}

impl<'a> Object<'a> {
    /// The outermost object; none if the value is something else.
    pub(crate) fn root(value: &'a Value) -> Option<Self> {
        value.as_object().map(|map| Self { map, path: String::new() })
    }

    /// The value of a key; none if absent or `null`.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'a>> {
        find(self.map, key).map(|value| Field { value, path: self.path_of(key) })
    }

    /// True if the key is there, even as `null`.
    pub(crate) fn states(&self, key: &str) -> bool {
        spelling(self.map, key).is_some()
    }

    /// The entries whose value is not `null`, their keys being data.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        let stated = self.map.iter().filter(|(_, v)| !v.is_null());
        stated.map(|(key, value)| (key.as_str(), Field { value, path: self.path_of(key) }))
    }

    /// The value of a key that must be there.
    pub(crate) fn need(&self, key: &str) -> Result<Field<'a>, CniError> {
        self.get(key).ok_or_else(|| CniError::new(code::CONFIG, format!("{} is missing", self.path_of(key))))
    }

    /// A string; an empty one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        let text = self.get(key).map(|f| f.text()).transpose()?;
        Ok(text.filter(|t| !t.is_empty()))
    }

    /// A string in a form of its own, whose errors show the string; an empty one counts as absent.
    pub(crate) fn parsed<T>(&self, key: &str) -> Result<Option<T>, CniError>
    where
        T: FromStr<Err: Display>,
    {
        let field = self.get(key).filter(|f| !f.is_empty_text());
        field.map(|f| f.parsed()).transpose()
    }

    /// An IP address; an empty string counts as absent.
    pub(crate) fn ip(&self, key: &str) -> Result<Option<IpAddr>, CniError> {
        let field = self.get(key).filter(|f| !f.is_empty_text());
        field.map(|f| f.ip()).transpose()
    }

    /// An absolute path; an empty string counts as absent.
    pub(crate) fn path(&self, key: &str) -> Result<Option<PathBuf>, CniError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if text.starts_with('/') && !text.contains('\0') {
            return Ok(Some(PathBuf::from(text)));
        }
        Err(self.need(key)?.wrong("is no absolute path"))
    }

    /// A truth value.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, CniError> {
        self.get(key)
            .map(|f| f.value.as_bool().ok_or_else(|| f.wrong("is neither true nor false")))
            .transpose()
    }

    /// A whole number, not negative.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u64>, CniError> {
        self.get(key).map(|f| f.whole()).transpose()
    }

    /// The items of a list; none if it is absent.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<Field<'a>>, CniError> {
        self.get(key).map_or_else(|| Ok(Vec::new()), |f| f.list())
    }

    /// The items of a list, or a single value in place of a list of one.
    pub(crate) fn one_or_more(&self, key: &str) -> Result<Vec<Field<'a>>, CniError> {
        match self.get(key) {
            Some(field) if field.value.is_array() => field.list(),
            Some(field) if field.is_empty_text() => Ok(Vec::new()),
            single => Ok(single.into_iter().collect()),
        }
    }

    /// The strings of a list; none if it is absent.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, CniError> {
        self.list(key)?.iter().map(|f| f.text().map(str::to_owned)).collect()
    }

    /// An object within; none if it is absent.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Object<'a>>, CniError> {
        self.get(key).map(|f| f.object()).transpose()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Field<'a> {
    /// The value itself.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The path that leads here.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Code 7: the value is malformed or contradicts another.
    pub(crate) fn wrong(&self, why: impl Display) -> CniError {
        CniError::new(code::CONFIG, format!("{} {}: {why}", self.path, self.shown()))
    }

    /// Code 2: the value is well formed, but not supported.
    pub(crate) fn unsupported(&self, why: impl Display) -> CniError {
        CniError::new(code::UNSUPPORTED_FIELD, format!("{} {}: {why}", self.path, self.shown()))
    }

    pub(crate) fn text(&self) -> Result<&'a str, CniError> {
        self.value.as_str().ok_or_else(|| self.wrong("is no string"))
    }

    pub(crate) fn parsed<T>(&self) -> Result<T, CniError>
    where
        T: FromStr<Err: Display>,
    {
        let refused = |why: T::Err| CniError::new(code::CONFIG, format!("{}: {why}", self.path));
        self.text()?.parse().map_err(refused)
    }

    /// An IP address; an IPv4 address in IPv6 clothes is IPv4, as it is for Go.
    pub(crate) fn ip(&self) -> Result<IpAddr, CniError> {
        let parsed = self.text()?.parse::<IpAddr>();
        parsed.map(|ip| ip.to_canonical()).map_err(|_unspecific| self.wrong("is no IP address"))
    }

    /// An address with a prefix length, host bits kept.
    pub(crate) fn cidr(&self) -> Result<IpNet, CniError> {
        let parsed = self.text()?.parse();
        parsed.map_err(|_unspecific| self.wrong("is no address with a prefix length such as 10.244.1.0/24"))
    }

    /// A network: as [`Self::cidr`], host bits zero.
    pub(crate) fn network(&self) -> Result<IpNet, CniError> {
        let net = self.cidr()?;
        if net == net.trunc() {
            return Ok(net);
        }
        Err(self.wrong(format_args!("has host bits set; the network is {}", net.trunc())))
    }

    pub(crate) fn whole(&self) -> Result<u64, CniError> {
        let integer = self.value.as_u64();
        // A float prints without exponent, and without a point exactly when it is whole.
        let float = || self.value.as_f64().and_then(|f| f.to_string().parse().ok());
        integer.or_else(float).ok_or_else(|| self.wrong("is no whole number from 0 up"))
    }

    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>, CniError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("is no list"))?;
        let item = |(i, value)| Field { value, path: format!("{}[{i}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn object(&self) -> Result<Object<'a>, CniError> {
        let map = self.value.as_object().ok_or_else(|| self.wrong("is no object"))?;
        Ok(Object { map, path: self.path.clone() })
    }

    fn is_empty_text(&self) -> bool {
        self.value.as_str() == Some("")
    }

    fn shown(&self) -> String {
        let text = self.value.to_string();
        match text.char_indices().nth(SHOWN) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests;
