//! What the kernel changes without a notification, as a glance compares it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use selvedge_datapath::foreign::ForwardChain;
use selvedge_datapath::state::Sysctl;

use crate::install::Looks;

/// All of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unannounced {
    pub(super) sysctls: BTreeMap<Sysctl, String>,
    pub(super) legacy: Vec<ForwardChain>,
    pub(super) plugin: Option<Looks>,
    /// Whether there is a forwarder.
    pub(super) forwarder: bool,
    /// The file of our own WireGuard key, as it was changed last.
    pub(super) key: Option<SystemTime>,
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
        let others = [
            (self.legacy != last.legacy, "legacy iptables rules changed"),
            (self.plugin != last.plugin, "the plugin changed"),
            (self.forwarder != last.forwarder, "the forwarder of the udp transport came or went"),
            (self.key != last.key, "our own WireGuard key changed"),
            (
                self.configurations != last.configurations,
                "another configuration came or went beside the conflist",
            ),
            (self.conflist != last.conflist, "the conflist changed"),
        ];
        others.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what.to_owned())
    }
}
