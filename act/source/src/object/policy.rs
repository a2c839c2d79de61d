//! NetworkPolicies.

use std::sync::Arc;

use selvedge_model::policy::{Mode, Policy, PolicyKey};
use selvedge_policy::{Refused, in_mode, refuse};
use serde_json::Value;

use super::Refusal;
use crate::yaml::{Fault, Field, Located};

/// The apiVersion of the NetworkPolicies that Kubernetes has.
pub(super) const VERSION: &str = "networking.k8s.io/v1";

/// True if whoever writes this apiVersion of a NetworkPolicy means Kubernetes' own: so it was called once, or might be
/// by mistake. Other groups have NetworkPolicies too.
pub(super) fn is_meant(version: &str) -> bool {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    matches!(group, "" | "extensions" | "networking.k8s.io")
}

/// Reads a policy; one that is no good has a closed form.
pub(super) fn read(manifest: &Field<'_>, key: PolicyKey, version: &str) -> Result<Arc<Policy>, Refusal> {
    let spec = manifest.get("spec").and_then(|spec| spec.map(|spec| spec.json()).transpose());
    let ((spec, bad_spec), (mode, bad_mode)) = (or_no_good(spec), or_no_good(mode(manifest)));
    let mut policy = in_mode(selvedge_policy::read(key, &spec.unwrap_or_default()), mode.as_ref());
    if version != VERSION {
        let what = format!("must be {VERSION} for a NetworkPolicy, but is {version}");
        policy = policy.and_then(|policy| Err(refuse(policy, "apiVersion".to_owned(), what)));
    }
    let refused = match policy {
        Ok(policy) => return Ok(Arc::new(policy)),
        Err(refused) => refused,
    };
    let Refused { path, what, closed } = refused;
    let of_field =
        || Located { at: manifest.position_of(&path), path: path.clone(), fault: Fault::Refused(what) };
    let fault = bad_spec.or(bad_mode).unwrap_or_else(of_field);
    Err(Refusal { fault, closed: Some(Arc::new(*closed)) })
}

fn mode(manifest: &Field<'_>) -> Result<Option<Value>, Located> {
    let metadata = manifest.require("metadata")?;
    super::annotation(&metadata, Mode::ANNOTATION)?.map(|mode| mode.json()).transpose()
}

/// A field, or what is no good as any, and why it can't be read.
fn or_no_good(field: Result<Option<Value>, Located>) -> (Option<Value>, Option<Located>) {
    match field {
        Ok(field) => (field, None),
        Err(fault) => (Some(Value::Bool(false)), Some(fault)),
    }
}
