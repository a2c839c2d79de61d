//! What a network says of name resolution. We pass it on; the runtime acts on it or not.

use serde_json::{Map, Value};

use crate::error::CniError;
use crate::json::Object;

/// The `dns` of configurations and results.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// The servers' addresses, as given.
    pub nameservers: Vec<String>,
    /// The local domain for short names.
    pub domain: Option<String>,
    /// The search list for short names.
    pub search: Vec<String>,
    /// Options for the resolver.
    pub options: Vec<String>,
}

impl Dns {
    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the `dns` of a configuration or a result; absent is empty.
    pub(crate) fn stated_in(outer: &Object<'_>) -> Result<Self, CniError> {
        let Some(dns) = outer.object("dns")? else { return Ok(Self::default()) };
        Ok(Self {
            nameservers: dns.texts("nameservers")?,
            domain: dns.text("domain")?.map(str::to_owned),
            search: dns.texts("search")?,
            options: dns.texts("options")?,
        })
    }

    /// Reads the `dns` of a runtimeConfig, whose keys have other names; absent is empty.
    pub(crate) fn stated_by_runtime(runtime: &Object<'_>) -> Result<Self, CniError> {
        let Some(dns) = runtime.object("dns")? else { return Ok(Self::default()) };
        Ok(Self {
            nameservers: dns.texts("servers")?,
            domain: None,
            search: dns.texts("searches")?,
            options: dns.texts("options")?,
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        let lists =
            [("nameservers", &self.nameservers), ("search", &self.search), ("options", &self.options)];
        if let Some(domain) = &self.domain {
            object.insert("domain".into(), domain.as_str().into());
        }
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            object.insert(key.into(), list.clone().into());
        }
        object.into()
    }
}
