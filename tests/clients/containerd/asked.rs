//! What a pod may ask for by way of containerd: bandwidth.

use std::collections::HashMap;

use selvedge_tests::Traces;
use serde_json::json;

use super::cri::Config;
use super::daemon::{Daemon, releases, routed};
use super::recorder;

#[test]
fn a_pods_bandwidth_is_limited_as_its_annotations_say() {
    for release in releases() {
        let conflist = routed(&json!({"capabilities": {"bandwidth": true}}));
        let Some(daemon) = Daemon::start(release, &conflist) else { return };
        let cri = daemon.cri();
        let limit = |way: &str, rate: &str| (format!("kubernetes.io/{way}-bandwidth"), rate.to_owned());
        let annotations = HashMap::from([limit("ingress", "10M"), limit("egress", "20M")]);
        let id = cri.run(Config { annotations, ..Config::of("web-0") }).unwrap();
        let add = recorder::calls(&daemon.machine, "ADD").pop().unwrap();
        let asked = &add.stdin["runtimeConfig"]["bandwidth"];
        assert_eq!(asked["IngressRate"], 10_000_000, "{asked}");
        assert_eq!(asked["EgressRate"], 20_000_000, "{asked}");
        let traces = Traces::on(daemon.machine.node(), &daemon.run_dir());
        for rate in ["10Mbit", "20Mbit"] {
            assert_eq!(traces.with(rate).len(), 1, "{traces:?}");
        }
        cri.end_all(&[id]);
        daemon.nothing_is_left();
    }
}
