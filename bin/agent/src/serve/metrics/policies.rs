//! What policies have admitted and denied, as metrics.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use selvedge_policy::{Direction, Drop, PolicyKey};

use super::super::{Figures, Policies};

/// Reads them anew each time that they are encoded.
pub(super) struct Collector(pub(super) Figures);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Page(encoder).policies(&(self.0)())
    }
}

/// The text as far as it is written.
struct Page<'a>(DescriptorEncoder<'a>);

/// Sums by policy and direction.
type Sums = BTreeMap<(PolicyKey, Direction), u64>;

impl Page<'_> {
    fn policies(&mut self, policies: &Policies) -> fmt::Result {
        let totals = &policies.totals;
        self.dropped(&totals.dropped)?;
        let help = "Packets that a rule of the policy let pass. Only those count that open a flow";
        self.sums("policy_admitted_packets", help, &totals.admitted)?;
        let help = "Packets dropped for want of a rule, counted for each policy that isolates the pod; to add them up \
                    take policy_dropped_packets";
        self.sums("policy_denied_packets", help, &totals.denied)?;
        let help = "Packets that a rule of the shadow would let pass";
        self.sums("policy_shadow_admitted_packets", help, &totals.would_admit)?;
        let help = "Packets that passed and for which the shadow has no rule, counted for each such shadow";
        self.sums("policy_shadow_denied_packets", help, &totals.would_deny)?;
        let help = "Times that packets came faster than they could be logged";
        let mut encoder = self.0.encode_descriptor("policy_log_lost", help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&policies.lost, None)
    }

    fn dropped(&mut self, dropped: &BTreeMap<Drop, u64>) -> fmt::Result {
        let help = "Packets dropped, each once: by the policies of a namespace, or for another reason";
        let mut encoder =
            self.0.encode_descriptor("policy_dropped_packets", help, None, MetricType::Counter)?;
        for (drop, count) in dropped {
            let (reason, namespace, direction) = match drop {
                Drop::Policy(namespace, direction) => ("policy", namespace.as_str(), direction.to_string()),
                Drop::Stray => ("stray", "", String::new()),
                Drop::Revoked => ("revoked", "", String::new()),
                Drop::Unseen => ("unseen", "", String::new()),
                Drop::UnknownAddress => ("unknown-address", "", String::new()),
            };
            let labels = [("reason", reason), ("namespace", namespace), ("direction", &direction)];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn sums(&mut self, name: &str, help: &str, sums: &Sums) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((policy, direction), count) in sums {
            let direction = direction.to_string();
            let labels =
                [("namespace", &*policy.namespace), ("policy", &*policy.name), ("direction", &*direction)];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use selvedge_policy::Totals;

    use super::*;

    #[test]
    fn every_sum_is_there_by_policy_and_direction() {
        let key = |name: &str| PolicyKey { namespace: "shop".to_owned(), name: name.to_owned() };
        let sums = |name: &str, count| Sums::from([((key(name), Direction::Ingress), count)]);
        let totals = Totals {
            admitted: sums("clients", 3),
            denied: [sums("clients", 5), sums("deny-all", 5)].into_iter().flatten().collect(),
            would_admit: sums("trial", 2),
            would_deny: sums("trial", 7),
            dropped: [
                (Drop::Policy("shop".to_owned(), Direction::Ingress), 5),
                (Drop::Stray, 1),
                (Drop::Revoked, 2),
                (Drop::Unseen, 3),
                (Drop::UnknownAddress, 4),
            ]
            .into(),
        };
        let policies = Policies { totals, lost: 9 };
        let mut registry = Registry::with_prefix("selvedge");
        registry.register_collector(Box::new(Collector(Box::new(move || policies.clone()))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert_eq!(text, include_str!("policies.txt"));
    }
}
