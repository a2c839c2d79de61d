//! What the kernel changes without a notification, as a glance compares it.

use std::collections::BTreeMap;

use selvedge_datapath::foreign::ForwardChain;
use selvedge_datapath::state::Sysctl;

use crate::forwarders::Glance;
use crate::install::Looks;

/// All of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unannounced {
    pub(super) sysctls: BTreeMap<Sysctl, String>,
    pub(super) legacy: Vec<ForwardChain>,
    pub(super) plugin: Option<Looks>,
    pub(super) forwarders: Option<Glance>,
    pub(super) configurations: Vec<String>,
    pub(super) conflist: Option<String>,
}

impl Unannounced {
    /// What has changed since, in words.
    pub(super) fn differs_from(&self, last: &Self) -> Option<String> {
        let sysctl = self.sysctls.iter().find(|(key, value)| last.sysctls.get(key) != Some(value));
        if let Some((key, value)) = sysctl {
            return Some(format!("{key} is {value}"));
        }
        let (now, before) = (self.forwarders.as_ref(), last.forwarders.as_ref());
        if let Some(what) = now.zip(before).and_then(|(now, before)| now.differs_from(before)) {
            return Some(what.to_owned());
        }
        let others = [
            (self.legacy != last.legacy, "legacy iptables rules changed"),
            (self.plugin != last.plugin, "the plugin changed"),
            (
                self.configurations != last.configurations,
                "another configuration came or went beside the conflist",
            ),
            (self.conflist != last.conflist, "the conflist changed"),
        ];
        others.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what.to_owned())
    }
}
