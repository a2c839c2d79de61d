//! The status as metrics, in the OpenMetrics text format that Prometheus reads.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use selvedge_reconcile::status::{Found, Pass, PeerStatus, State, Status, StepOutcome, StepResult};

use super::{Figures, Shared};

mod policies;

/// The format's media type.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a status, read anew each time that they are encoded.
pub(super) fn registry(status: Shared, figures: Figures) -> Registry {
    let mut registry = Registry::with_prefix("selvedge");
    registry.register_collector(Box::new(StatusCollector(status)));
    registry.register_collector(Box::new(policies::Collector(figures)));
    registry
}

#[derive(Debug)]
struct StatusCollector(Shared);

impl Collector for StatusCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.read(|status| Page(encoder).status(status))
    }
}

/// The text as far as it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn status(&mut self, status: &Status) -> fmt::Result {
        let version = [("version", status.version.as_str())];
        self.metric("build", "The agent", &Info::new(version))?;
        self.gauge("ready", "1 if pods are served", usize::from(status.state.serves()))?;
        self.counter("passes", "Passes of the loop", status.passes)?;
        let last = status.last_pass.as_ref();
        self.pass_duration(last)?;
        let failed = |step: &&StepOutcome| matches!(step.result, StepResult::Failed(_));
        let failed = last.map_or(0, |pass| pass.steps.iter().filter(failed).count());
        self.gauge("failed_steps", "Steps of the last pass that failed", failed)?;
        self.repairs(status)?;
        self.gauge("attachments", "Pods attached to this node", status.wanted.attachments.len())?;
        let help = "Attachments whose addresses no Pod that the API tells of has";
        self.gauge("attachments_without_pod", help, status.without_pod.len())?;
        self.gauge("peer_routes", "Routes wanted to the other nodes' pods", status.wanted.routes.len())?;
        self.path_mtus(&status.wanted.peers)?;
        self.counter(
            "leases_freed",
            "Leases freed since the kernel shows their pods gone",
            status.leases_freed,
        )?;
        let amiss = match &status.state {
            State::Degraded { reasons } | State::Failed { reasons } => reasons.len(),
            State::Waiting { .. } | State::Ready => 0,
        };
        self.gauge("problems", "What keeps all or part of the node from working", amiss)?;
        let help = "What is wrong with what the cluster's state comes from";
        self.gauge("source_problems", help, status.source_problems.len())?;
        self.seconds(
            "source_age",
            "How old the cluster's state is; 0 if its source is heard",
            status.source_age(),
        )
    }

    fn repairs(&mut self, status: &Status) -> fmt::Result {
        let help = "Changes by others that the loop undid";
        let mut encoder = self.0.encode_descriptor("repairs", help, None, MetricType::Counter)?;
        for (object, count) in &status.repaired {
            let label = [("object", object.as_str())];
            encoder.encode_family(&label)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn path_mtus(&mut self, peers: &[PeerStatus]) -> fmt::Result {
        let help = "What a packet to another node's pods may measure; 0 if nothing comes back from there";
        let unit = Some(&Unit::Bytes);
        let mut encoder = self.0.encode_descriptor("peer_path_mtu", help, unit, MetricType::Gauge)?;
        for peer in peers {
            let labels = [("node", peer.node.as_str()), ("transport", peer.transport.as_str())];
            let mtu = if peer.measured == Found::Silent { 0 } else { peer.path_mtu };
            encoder.encode_family(&labels)?.encode_gauge(&i64::from(mtu))?;
        }
        Ok(())
    }

    fn pass_duration(&mut self, last: Option<&Pass>) -> fmt::Result {
        let took = last.map_or(Duration::ZERO, |pass| Duration::from_micros(pass.took_us));
        self.seconds("pass_duration", "How long the last pass took", took)
    }

    fn seconds(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        encoder.encode_gauge(&value.as_secs_f64())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(status: Status) -> String {
        let mut text = String::new();
        let figures = Box::new(super::super::Policies::default);
        encode(&mut text, &registry(Shared(Arc::new(Mutex::new(status))), figures)).unwrap();
        text
    }

    #[test]
    fn before_the_first_pass_everything_is_zero() {
        let text = text(Status::starting("node-a", "1.2.3"));
        assert_eq!(text, include_str!("metrics/starting.txt"));
    }

    #[test]
    fn every_figure_of_the_status_is_there() {
        let mut status = Status::starting("node-a", "1.2.3");
        let step = |result| StepOutcome { step: "ip route add".into(), object: "route".into(), result };
        let steps = vec![
            step(StepResult::Done),
            step(StepResult::Failed("EPERM".into())),
            step(StepResult::Failed("EINVAL".into())),
            step(StepResult::Skipped),
        ];
        status.last_pass =
            Some(Pass { because: vec!["start".into()], at_ms: 1, took_us: 2500, steps, others: 0 });
        status.state = State::Degraded { reasons: vec!["a route".into()] };
        status.passes = 42;
        status.repaired = [("route".to_owned(), 3), ("odd \"kind\"\n".to_owned(), 1)].into();
        status.wanted.routes = vec![String::new(); 4];
        status.wanted.attachments = vec![String::new(); 5];
        let peer = |node: &str, measured| PeerStatus {
            node: node.to_owned(),
            transport: "vxlan".to_owned(),
            instead_of: None,
            path_mtu: 1450,
            measured,
        };
        status.wanted.peers = vec![peer("node-b", Found::Ok), peer("node-c", Found::Silent)];
        status.without_pod = vec![String::new(); 2];
        status.source_problems = vec![String::new(); 6];
        status.leases_freed = 7;
        assert_eq!(text(status), include_str!("metrics/working.txt"));
    }
}
