//! A node, its network, and many pods on it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;

use selvedge_leases::Store;
use selvedge_model::AttachmentKey;
use selvedge_netlink::RouteSocket;
use selvedge_tests::{Answer, Call, Pod, Stage, Traces};
use serde_json::{Value, json};

/// Pods `web-0`, `web-1` and so on, none attached yet, and the network that they are attached to.
pub(crate) struct Herd {
    pub(crate) stage: Stage,
    pub(crate) config: Value,
    pub(crate) run_dir: PathBuf,
    pods: Vec<Pod>,
    before: Traces,
}

impl Herd {
    /// So many pods; `more` is set in the network's configuration.
    pub(crate) fn new(run_dir: &Path, pods: usize, more: Value) -> Option<Self> {
        let stage = Stage::new()?;
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "mynet", "type": "selvedge", "network": "10.244.0.0/16",
            "subnet": "10.244.0.0/16", "runDir": run_dir,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let pods = (0..pods).map(|_| stage.pod()).collect();
        let before = Traces::on(stage.node(), run_dir);
        Some(Self { stage, config, run_dir: run_dir.to_owned(), pods, before })
    }

    /// How many pods there are.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.run_dir, &"mynet".parse().unwrap())
    }

    /// A call for a pod.
    pub(crate) fn call(&self, verb: &str, pod: usize) -> Call {
        Call::new(verb, self.config.clone()).of(&format!("web-{pod}"), &self.pods[pod])
    }

    /// The same with what ADD answered.
    pub(crate) fn call_after(&self, verb: &str, pod: usize, result: &Value) -> Call {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        self.call(verb, pod).saying(config.to_string())
    }

    /// A GC after which only these pods' attachments are valid.
    pub(crate) fn gc(&self, valid: impl IntoIterator<Item = usize>) -> Call {
        let valid =
            valid.into_iter().map(|pod| json!({"containerID": format!("web-{pod}"), "ifname": "eth0"}));
        let mut config = self.config.clone();
        config["cni.dev/valid-attachments"] = valid.collect();
        Call::new("GC", config)
    }

    pub(crate) fn run(&self, call: &Call) -> Answer {
        call.run(self.stage.node())
    }

    /// Attaches a pod, which must succeed; what ADD answered.
    pub(crate) fn add(&self, pod: usize) -> Value {
        self.run(&self.call("ADD", pod)).result().clone()
    }

    /// Calls for many pods, all at the same time.
    pub(crate) fn at_once(&self, verb: &str, pods: impl IntoIterator<Item = usize>) -> Vec<Answer> {
        let calls: Vec<Call> = pods.into_iter().map(|pod| self.call(verb, pod)).collect();
        thread::scope(|scope| {
            let threads: Vec<_> = calls.iter().map(|call| scope.spawn(|| self.run(call))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// The addresses that a pod has on its interface, without prefix lengths.
    pub(crate) fn seen(&self, pod: usize) -> BTreeSet<String> {
        let socket = RouteSocket::open_in(self.pods[pod].namespace());
        let link = socket.unwrap().observe_link(&"eth0".parse().unwrap()).unwrap();
        let addresses = link.map(|link| link.addresses).unwrap_or_default();
        let addresses = addresses.iter().map(|address| address.net.addr());
        addresses.filter(|address| address.is_ipv4()).map(|address| address.to_string()).collect()
    }

    /// Fails unless the node is as it was.
    pub(crate) fn must_be_back(&self) {
        self.before.must_be_back_on(self.stage.node(), &self.run_dir);
    }
}

/// A pod's key.
pub(crate) fn key(pod: usize) -> AttachmentKey {
    AttachmentKey { container: format!("web-{pod}").parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

/// The addresses of a result, without prefix lengths.
pub(crate) fn addresses(result: &Value) -> BTreeSet<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// Says what was tried. Not with `println!`, which the test harness keeps to itself when a test passes.
pub(crate) fn say(line: &str) {
    std::io::stderr().write_all(format!("crash: {line}\n").as_bytes()).unwrap();
}
