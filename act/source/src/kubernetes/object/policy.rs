//! NetworkPolicies.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use selvedge_model::Policies;
use selvedge_model::policy::{Mode, Policy, PolicyKey};
use selvedge_policy::{in_mode, read};
use serde::Deserialize;
use serde_json::Value;

use super::{Followed, Instead, Keeper, Refusal, annotation, namespaced};

/// A NetworkPolicy (networking.k8s.io/v1).
#[derive(Debug, Clone, Deserialize)]
pub(in crate::kubernetes) struct ApiPolicy {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

impl Followed for ApiPolicy {
    type Store = Policies;

    fn key(&self) -> Result<PolicyKey, String> {
        namespaced(&self.metadata).map(|(namespace, name)| PolicyKey { namespace, name })
    }

    fn keep(self, _: &mut Keeper) -> Result<Option<Arc<Policy>>, Refusal<Arc<Policy>>> {
        let key = self.key()?;
        let mode = annotation(&self.metadata, Mode::ANNOTATION).map(Value::from);
        match in_mode(read(key, &self.spec), mode.as_ref()) {
            Ok(policy) => Ok(Some(Arc::new(policy))),
            Err(refused) => {
                let why = format!("{}: {}", refused.path, refused.what);
                let said = match refused.closed.mode {
                    Mode::Enforced => " (the pods it selects are closed)",
                    Mode::Shadow => "",
                };
                Err(Refusal { why, instead: Instead::Closed(Arc::new(*refused.closed), said) })
            }
        }
    }

    fn is_stand_in(kept: &Arc<Policy>) -> bool {
        kept.refused.is_some()
    }
}
