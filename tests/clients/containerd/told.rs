//! What containerd tells the plugin of a pod.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};

use super::cri::{Config, DnsConfig};
use super::daemon::{Daemon, releases, routed};
use super::recorder;

#[test]
fn a_pod_is_named_and_its_capabilities_come_in_camel_case() {
    let capabilities = json!({"dns": true, "io.kubernetes.cri.pod-annotations": true});
    for release in releases() {
        let conflist = routed(&json!({"capabilities": capabilities}));
        let Some(daemon) = Daemon::start(release, &conflist) else { return };
        let cri = daemon.cri();
        let dns =
            DnsConfig { servers: vec!["10.96.0.10".into()], searches: vec!["svc.cluster.local".into()] };
        let annotations = HashMap::from([("team".to_owned(), "shop".to_owned())]);
        let id = cri.run(Config { dns: Some(dns), annotations, ..Config::of("web-0") }).unwrap();
        let addresses = cri.addresses(&id);
        assert_eq!(addresses, ["10.244.1.2", "fd00:10:244:1::2"]);

        let add = recorder::calls(&daemon.machine, "ADD").pop().unwrap();
        assert_eq!((add.variable("CNI_CONTAINERID"), add.variable("CNI_IFNAME")), (id.as_str(), "eth0"));
        assert!(add.variable("CNI_NETNS").contains("/run/netns/cni-"), "{}", add.variable("CNI_NETNS"));
        let arguments = add.arguments();
        for (name, value) in [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", "default"),
            ("K8S_POD_NAME", "web-0"),
            ("K8S_POD_INFRA_CONTAINER_ID", id.as_str()),
            ("K8S_POD_UID", "uid-web-0"),
        ] {
            assert_eq!(arguments.get(name), Some(&value), "{name}");
        }
        let runtime = &add.stdin["runtimeConfig"];
        assert_eq!(runtime["dns"]["Servers"], json!(["10.96.0.10"]), "{runtime}");
        assert_eq!(runtime["io.kubernetes.cri.pod-annotations"], json!({"team": "shop"}), "{runtime}");
        let spoken = if daemon.release.is_2() { "1.1.0" } else { "1.0.0" };
        assert_eq!(add.stdin["cniVersion"], spoken);
        // Spelled as the plugin spells it, so it was understood.
        let result = result(&daemon, &id);
        assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]), "{result}");
        assert_eq!(result["dns"]["search"], json!(["svc.cluster.local"]), "{result}");

        cri.end_all(&[id]);
        let dels = recorder::calls(&daemon.machine, "DEL");
        // There may be another, of RemovePodSandbox, with nothing to go by.
        let del = dels.first().unwrap();
        assert_eq!(del.stdin["prevResult"]["ips"][0]["address"], "10.244.1.2/32");
        let asked = recorder::calls(&daemon.machine, "STATUS").len();
        assert_eq!(asked > 0, daemon.release.is_2(), "STATUS was asked for {asked} times");
        daemon.nothing_is_left();
    }
}

/// What libcni keeps of the plugin's answer.
fn result(daemon: &Daemon, id: &str) -> Value {
    let path = daemon.machine.path(&format!("/var/lib/cni/results/selvedge-{id}-eth0"));
    let cached: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    cached["result"].clone()
}
