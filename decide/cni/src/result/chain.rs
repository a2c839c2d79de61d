//! The result of the plugins before ours.

use serde_json::{Map, Value};

use super::{AddResult, Interface, Ip, Route};
use crate::error::{CniError, code};
use crate::json::{Field, spelling};
use crate::version::{Shape, Version};

/// `prevResult`: what the plugins before ours made of this attachment, or, in CHECK, what the whole chain did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrevResult {
    raw: Value,
    version: Version,
    result: AddResult,
}

impl PrevResult {
    pub(crate) fn read(field: &Field<'_>, assumed: Version) -> Result<Self, CniError> {
        let object = field.object()?;
        let version =
            Version::maybe_stated_in(&object).map_err(|e| e.context(field.path()))?.unwrap_or(assumed);
        let result = AddResult::parse(field.value(), assumed).map_err(|e| e.context(field.path()))?;
        Ok(Self { raw: field.value().clone(), version, result })
    }

    /// The result as given, every field of it.
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// What we understand of it.
    pub fn result(&self) -> &AddResult {
        &self.result
    }

    /// The namespace that it has a container's interface of a name in; none if it has none there.
    pub fn sandbox_of(&self, name: &str) -> Option<&str> {
        self.result.interfaces.iter().filter(|i| i.name == name).find_map(Interface::namespace)
    }

    /// What it says otherwise than an answer of ours, or doesn't say of it; `None` if nothing. What other plugins of
    /// the chain have added is theirs to check, and so are hardware addresses and MTUs, which they may change.
    ///
    /// A result older than 0.3.0 has no interfaces, and of each family one address: these must be ours.
    pub fn contradiction(&self, ours: &AddResult) -> Option<String> {
        if self.version.shape() == Shape::PerFamily {
            return self.result.other_address(ours, |ip| ip.interface.is_none());
        }
        let container = ours.interfaces.iter().find(|own| own.namespace().is_some())?;
        let named = |i: &Interface| i.name == container.name && i.namespace().is_some();
        let on_it = |ip: &Ip| ip.interface.and_then(|i| self.result.interfaces.get(i)).is_some_and(named);
        let interface = ours.interfaces.iter().find_map(|own| self.result.other_interface(own));
        let listed = |own: &&Ip| {
            let mut same = self.result.ips.iter().filter(|ip| ip.address == own.address);
            same.any(|ip| ip.interface.is_none() || on_it(ip))
        };
        let unlisted = || ours.ips.iter().find(|own| !listed(own));
        interface
            .or_else(|| self.result.other_address(ours, on_it))
            .or_else(|| {
                unlisted().map(|own| format!("ips: {} of {} is missing", own.address, container.name))
            })
            .or_else(|| ours.routes.iter().find_map(|own| self.result.other_route(own)))
    }

    /// This result and ours after it, in a version. Nothing that is there is changed but the version and, if ours
    /// says anything of it, the dns: fields that we don't know stay, except between versions of different shape.
    pub fn extended(&self, ours: &AddResult, version: Version) -> Result<Value, CniError> {
        let ours = ours.after(self.result.interfaces.len());
        let same_shape = self.version.shape() == version.shape() && version.shape() != Shape::PerFamily;
        let (Some(theirs), true) = (self.raw.as_object(), same_shape) else {
            return self.result.joined(ours).render(version);
        };
        let mut raw = theirs.clone();
        set(&mut raw, "cniVersion", version.as_str().into());
        if !ours.dns.is_empty() {
            set(&mut raw, "dns", ours.dns.to_json());
        }
        let rendered = ours.render(version)?;
        for key in ["interfaces", "ips", "routes"] {
            let added = rendered[key].as_array().into_iter().flatten().cloned();
            append(&mut raw, key, added)?;
        }
        Ok(raw.into())
    }
}

impl AddResult {
    /// An interface of ours that is missing, or in another namespace.
    fn other_interface(&self, own: &Interface) -> Option<String> {
        let namesakes = || self.interfaces.iter().filter(|i| i.name == own.name);
        if namesakes().any(|i| i.namespace() == own.namespace()) {
            return None;
        }
        let name = &own.name;
        Some(match (own.namespace(), namesakes().find_map(Interface::namespace)) {
            (Some(ours), Some(theirs)) => format!("interfaces: {name} is in {theirs}, not in {ours}"),
            (Some(ours), None) => format!("interfaces: {name} in {ours} is missing"),
            (None, _) => format!("interfaces: {name} on the host is missing"),
        })
    }

    /// An address that is said to be ours and isn't.
    fn other_address(&self, ours: &Self, is_ours: impl Fn(&Ip) -> bool) -> Option<String> {
        let given = |ip: &Ip| ours.ips.iter().any(|own| own.address.addr() == ip.address.addr());
        let other = self.ips.iter().find(|ip| is_ours(ip) && !given(ip))?;
        Some(format!("ips: {} is not leased to it", other.address))
    }

    /// A route of ours that has another next hop. One that is not listed any more went with a plugin that knew why.
    fn other_route(&self, own: &Route) -> Option<String> {
        let there = || self.routes.iter().filter(|route| route.dst.trunc() == own.dst.trunc());
        let other = there().next()?.gw?;
        let agrees = |route: &Route| route.gw.is_none() || route.gw == own.gw;
        let by = own.gw.filter(|_| !there().any(agrees))?;
        Some(format!("routes: {} is by way of {other}, not of {by}", own.dst))
    }

    /// The result with its indexes moved past so many interfaces.
    fn after(&self, interfaces: usize) -> Self {
        let mut moved = self.clone();
        for index in moved.ips.iter_mut().filter_map(|ip| ip.interface.as_mut()) {
            *index += interfaces;
        }
        moved
    }

    fn joined(&self, later: Self) -> Self {
        let mut joined = self.clone();
        joined.interfaces.extend(later.interfaces);
        joined.ips.extend(later.ips);
        joined.routes.extend(later.routes);
        if !later.dns.is_empty() {
            joined.dns = later.dns;
        }
        joined
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    let key = spelling(map, key).unwrap_or(key).to_owned();
    map.insert(key, value);
}

fn append(
    map: &mut Map<String, Value>,
    key: &str,
    added: impl Iterator<Item = Value>,
) -> Result<(), CniError> {
    let spelled = spelling(map, key).unwrap_or(key).to_owned();
    match map.entry(spelled).or_insert(Value::Null) {
        Value::Array(list) => list.extend(added),
        place if place.is_null() => *place = added.collect(),
        other => return Err(CniError::new(code::CONFIG, format!("prevResult.{key} {other}: is no list"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
