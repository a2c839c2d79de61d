//! The result of the plugins before ours.

use serde_json::{Map, Value};

use super::AddResult;
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
