//! A real API server, followed through whatever becomes of it. `make kubernetes` builds one.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use selvedge_model::{Cluster, Node, PublicKey};
use selvedge_netns::Namespace;
use selvedge_source::keys::Announced;
use selvedge_source::kubernetes::{Duties, Update};
use selvedge_tests::kubernetes::{Folder, Plane, Programs, cable, repository, run, until};
use selvedge_tests::{Machine, skipped};
use serde_json::{Value, json};

use crate::following::{Following, nodes};
use crate::site::alone;

/// The API server's address, and the one of whoever follows it.
const SERVER: &str = "172.30.0.1";
const NODE: &str = "172.30.0.2";

/// How soon a change is known, and how soon after the server is back, in seconds.
const SOON: f64 = 60.0;
const AFTER_RETRIES: f64 = 240.0;

/// Every packet from and to the node is dropped.
const CUT: &str = "add table inet cut
    add chain inet cut in { type filter hook input priority 0; }
    add chain inet cut out { type filter hook output priority 0; }
    add rule inet cut in iifname node drop
    add rule inet cut out oifname node drop";

const ACCOUNTS: &str = "/api/v1/namespaces/kube-system/serviceaccounts";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const PODS: &str = "/api/v1/namespaces/shop/pods";

struct Real {
    plane: Plane,
    node: Namespace,
    programs: Programs,
    folder: Folder,
}

impl Real {
    /// One in which deploy/selvedge.yaml is applied, and nothing acts on it; two Nodes, ours without a podCIDR.
    fn start() -> Option<Self> {
        let machine = Machine::boot()?;
        let Some(programs) = Programs::find() else {
            skipped("no API server is built: `make kubernetes` builds it");
            return None;
        };
        let folder = Folder::new();
        let node = Namespace::create().unwrap();
        cable((machine.node(), "node"), (&node, "eth0"));
        run(machine.command("ip").args(["addr", "add", &format!("{SERVER}/24"), "dev", "node"]));
        for line in
            ["link set lo up".to_owned(), format!("addr add {NODE}/24 dev eth0"), "link set eth0 up".into()]
        {
            node.run(|| run(std::process::Command::new("ip").args(line.split(' ')))).unwrap();
        }
        let plane = Plane::start((machine, SERVER), &folder, &programs);
        let real = Self { plane, node, programs, folder };
        let manifest = repository("deploy/selvedge.yaml");
        // A server may be ready before it describes its API.
        until(60, "the manifest is applied", || {
            let applied = real
                .plane
                .kubectl(&real.programs)
                .args(["apply", "--validate=false", "-f"])
                .arg(&manifest)
                .output()
                .unwrap();
            if applied.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&applied.stderr).into_owned())
            }
        });
        real.put("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}));
        real.put("/api/v1/namespaces/shop/serviceaccounts", &json!({"metadata": {"name": "default"}}));
        real.put("/api/v1/nodes", &object("node-0", &[]));
        real.put("/api/v1/nodes", &object("node-1", &["10.244.1.0/24"]));
        Some(real)
    }

    /// Makes an object of a collection; as it became.
    fn put(&self, collection: &str, object: &Value) -> Value {
        let file = self.folder.join("put.json");
        fs::write(&file, object.to_string()).unwrap();
        let made =
            run(self.plane.kubectl(&self.programs).args(["create", "--raw", collection, "-f"]).arg(file));
        serde_json::from_str(&made).unwrap()
    }

    fn delete(&self, path: &str) {
        run(self.plane.kubectl(&self.programs).args(["delete", "--raw", path]));
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&run(self.plane.kubectl(&self.programs).args(["get", "--raw", path]))).unwrap()
    }

    fn patch(&self, words: &str, patch: &Value) {
        let mut kubectl = self.plane.kubectl(&self.programs);
        run(kubectl.arg("patch").args(words.split(' ')).args(["--type", "merge", "-p", &patch.to_string()]));
    }

    /// A file with a service account's token, as people write them; and a kubeconfig that names it.
    fn account(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = self.folder.join(&format!("{name}.token"));
        self.write_token(name, &file);
        let pki = &self.plane.authority;
        let config = pki.written(&format!("account-{name}"), &self.plane.server, &json!({"tokenFile": file}));
        (file, config)
    }

    fn write_token(&self, name: &str, file: &PathBuf) {
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 600}});
        let token = self.put(&format!("{ACCOUNTS}/{name}/token"), &asked);
        fs::write(file, format!("{}\n", token["status"]["token"].as_str().unwrap())).unwrap();
    }

    /// Lets a service account do what the agent's may.
    fn bind(&self, name: &str) {
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "selvedge"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}]});
        self.put(BINDINGS, &binding);
    }

    /// From now on nothing of what is sent between the node and the server arrives.
    fn cut(&self) {
        run(self.plane.machine.command("nft").arg(CUT));
    }

    fn mend(&self) {
        run(self.plane.machine.command("nft").arg("delete table inet cut"));
    }

    /// Has etcd forget what was before a revision, which is what the API calls a resource version.
    fn compact(&self, revision: &str) {
        let connect = || TcpStream::connect("127.0.0.1:2379");
        let mut etcd = self.plane.machine.node().run(connect).unwrap().unwrap();
        let body = json!({"revision": revision, "physical": true}).to_string();
        let length = body.len();
        let request = format!(
            "POST /v3/kv/compaction HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        etcd.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        etcd.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.print_logs();
        }
    }
}

fn object(name: &str, cidrs: &[&str]) -> Value {
    let address = format!("192.0.2.{}", 10 + name.len());
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    if let [first, ..] = cidrs {
        node["spec"] = json!({"podCIDR": first, "podCIDRs": cidrs});
    }
    node
}

fn pod(name: &str, on: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": on, "automountServiceAccountToken": false,
            "containers": [{"name": "web", "image": "selvedge.test/web:1"}]}})
}

/// A Node as it is known.
fn known<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Node> {
    cluster.nodes().get(&name.parse().unwrap())
}

fn has_pods(update: &Update, names: &[&str]) -> bool {
    let keys = |cluster: &Cluster| cluster.pods().keys().map(ToString::to_string).collect::<Vec<_>>();
    update.cluster.as_ref().is_some_and(|cluster| keys(cluster) == names)
}

fn is_well(update: &Update) -> bool {
    update.whole && update.lost.is_none() && update.problems.is_empty()
}

fn says(update: &Update, text: &str) -> bool {
    update.problems.iter().any(|problem| problem.contains(text))
}

#[test]
fn a_real_api_server_is_followed_through_whatever_becomes_of_it() {
    // It keeps a processor busy for seconds.
    let _alone = alone();
    let Some(mut real) = Real::start() else { return };
    follows_what_changes(&real);
    outlives_all_that_goes_wrong_at_once(&mut real);
}

fn follows_what_changes(real: &Real) {
    let (key, told) = (Announced::default(), Box::new(|_| {}));
    let duties = Duties { serves: Box::new(|| true), taint: false, key: key.clone(), told };
    let (_, config) = real.account("selvedge");
    let mut agent = Following::start(&real.node, &config, ("node-0", Some(duties)));
    let update = agent.until(SOON, "two nodes", |update| is_well(update) && nodes(update) == Some(2));
    let cluster = update.cluster.unwrap();
    assert_eq!(known(&cluster, "node-0").unwrap().pod_cidrs, []);
    assert_eq!(known(&cluster, "node-1").unwrap().pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(known(&cluster, "node-1").unwrap().addresses.len(), 1);
    until(60, "the condition NetworkUnavailable is False", || {
        let node = real.get("/api/v1/nodes/node-0");
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ours = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable");
        if ours.is_some_and(|ours| ours["status"] == "False") {
            Ok(())
        } else {
            Err(node["status"].to_string())
        }
    });
    // Also by the status alone an annotation is changed.
    for own in [Some(PublicKey([1; 32])), Some(PublicKey([2; 32])), None] {
        key.is(own);
        agent.until(SOON, "our key is said", |update| {
            update.cluster.as_ref().is_some_and(|cluster| known(cluster, "node-0").unwrap().wireguard == own)
        });
    }

    real.put("/api/v1/nodes", &object("node-2", &["10.244.2.0/24"]));
    real.patch("node node-0", &json!({"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}}));
    agent.until(SOON, "a Node more, and the podCIDR that came late", |update| {
        let node = update.cluster.as_ref().and_then(|cluster| known(cluster, "node-0"));
        nodes(update) == Some(3)
            && node.is_some_and(|node| node.pod_cidrs == ["10.244.0.0/24".parse().unwrap()])
    });

    for (name, on) in [("web-0", "node-0"), ("web-1", "node-1"), ("web-2", "node-0")] {
        real.put(PODS, &pod(name, on));
    }
    agent.until(SOON, "all pods", |update| has_pods(update, &["shop/web-0", "shop/web-1", "shop/web-2"]));
    real.patch("-n shop pod web-0", &json!({"metadata": {"labels": {"app": "shop"}}}));
    agent.until(SOON, "a changed label", |update| {
        let mut pods = update.cluster.iter().flat_map(|cluster| cluster.pods().values());
        pods.any(|pod| pod.labels["app"] == "shop")
    });
    real.delete(&format!("{PODS}/web-2?gracePeriodSeconds=0"));
    agent.until(SOON, "a pod is gone", |update| has_pods(update, &["shop/web-0", "shop/web-1"]));

    real.cut();
    real.put(PODS, &pod("web-3", "node-0"));
    // The kernel is to have sent it in vain.
    sleep(Duration::from_secs(1));
    real.mend();
    let there = ["shop/web-0", "shop/web-1", "shop/web-3"];
    agent.until(SOON, "what was sent in vain", |update| has_pods(update, &there));
}

/// A partition, of which the end finds another server, which forgot what was before; one who follows it may not any
/// more, and another's token is not good any more.
fn outlives_all_that_goes_wrong_at_once(real: &mut Real) {
    real.put(ACCOUNTS, &json!({"metadata": {"name": "other"}}));
    real.bind("other");
    let admin = real.plane.admin().clone();
    let (_, config) = real.account("selvedge");
    let (token, other) = real.account("other");
    let [mut forbidden, mut unknown, mut left] =
        [&config, &other, &admin].map(|config| Following::start(&real.node, config, ("node-0", None)));
    for one in [&mut forbidden, &mut unknown, &mut left] {
        one.until(SOON, "all is known", |update| is_well(update) && nodes(update) == Some(3));
    }
    real.cut();
    real.delete("/api/v1/nodes/node-2");
    real.delete(&format!("{PODS}/web-3?gracePeriodSeconds=0"));
    real.delete(&format!("{BINDINGS}/selvedge"));
    real.delete(&format!("{ACCOUNTS}/other"));
    let last = real.put(ACCOUNTS, &json!({"metadata": {"name": "other"}}));
    real.compact(last["metadata"]["resourceVersion"].as_str().unwrap());
    real.plane.stop_api();
    real.mend();
    let lost = left.until(AFTER_RETRIES, "the loss is told", |update| update.lost.is_some());
    // What the old server had sent may have come with the news of its end.
    let pods = lost.cluster.as_ref().map(|cluster| cluster.pods().len());
    let known = (nodes(&lost), pods);
    assert!(known >= (Some(2), Some(2)), "what was complete stays in force: {known:?}");
    real.plane.start_api(&real.folder, &real.programs);
    left.until(AFTER_RETRIES, "that is too old", |update| says(update, "(410 "));
    let there = ["shop/web-0", "shop/web-1"];
    let caught_up = |update: &Update| is_well(update) && nodes(update) == Some(2) && has_pods(update, &there);
    left.until(AFTER_RETRIES, "it has caught up", caught_up);

    forbidden.until(AFTER_RETRIES, "it may not", |update| says(update, "(403 Forbidden)"));
    real.bind("selvedge");
    unknown.until(AFTER_RETRIES, "it is unknown", |update| says(update, "(401 Unauthorized)"));
    real.write_token("other", &token);
    for one in [&mut forbidden, &mut unknown] {
        one.until(AFTER_RETRIES, "it has caught up", caught_up);
    }
}
