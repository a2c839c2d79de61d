//! Namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use selvedge_model::{Log, Namespace};
use serde::Deserialize;

use super::{Followed, Keeper, Refusal, annotation, named};

/// A Namespace (core/v1).
#[derive(Debug, Clone, Deserialize)]
pub(in crate::kubernetes) struct ApiNamespace {
    pub(super) metadata: ObjectMeta,
}

impl Followed for ApiNamespace {
    type Store = Arc<BTreeMap<String, Namespace>>;

    fn key(&self) -> Result<String, String> {
        named("metadata.name", &self.metadata.name)
    }

    fn keep(self, _: &mut Keeper) -> Result<Option<Namespace>, Refusal<Namespace>> {
        let log = annotation(&self.metadata, Log::ANNOTATION).map(|text| {
            let path = format!("metadata.annotations[{:?}]", Log::ANNOTATION);
            Log::named(text).ok_or_else(|| format!("{path} {text:?}: must be off, denied or all"))
        });
        let log = log.transpose()?.unwrap_or_default();
        Ok(Some(Namespace { labels: self.metadata.labels.unwrap_or_default().into(), log }))
    }
}
