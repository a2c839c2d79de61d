//! What an agent tells the API of its Node: that its network is there, and its WireGuard key.

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_lab::shape::Attach;
use selvedge_model::PublicKey;
use selvedge_netns::Namespace;
use selvedge_source::keys::Announced;
use selvedge_source::kubernetes::Duties;
use selvedge_tests::kubernetes::Folder;
use selvedge_tests::{Agent, ApiServer, Cluster, Faults, within};
use serde_json::{Value, json};

use crate::following::Following;
use crate::site::alone;

/// Long enough for a busy machine, and for what is tried again.
const SOON: f64 = 60.0;

const TAINT: &str = "selvedge.dev/agent-not-ready";

struct Told {
    agent: Agent,
    server: ApiServer,
    node: Value,
    cluster: Cluster,
}

impl Told {
    /// An agent with these lines in its configuration, whose Node has the taint and no network yet, as clouds have it.
    fn new(config: &str, faults: Faults) -> Option<Self> {
        let cluster = Cluster::build(1, Attach::Routed)?;
        let node = &cluster.nodes[0];
        let server = ApiServer::start(&node.namespace, 34);
        let (kubeconfig, settings) = (node.folder().join("kubeconfig"), node.folder().join("agent.yaml"));
        server.kubeconfig(&kubeconfig);
        server.fail(faults);
        fs::write(settings, format!("attach: routed\n{config}")).unwrap();
        let mut object = node.object(&node.plan.pod_cidrs);
        object["spec"]["taints"] = json!([
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
            {"key": TAINT, "effect": "NoExecute"},
        ]);
        object["status"]["conditions"] = json!([
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"},
        ]);
        server.put("nodes", object.clone());
        let agent = node.agent_of(("--kubeconfig", &kubeconfig));
        Some(Self { agent, server, node: object, cluster })
    }

    fn object(&self) -> Value {
        self.server.object("nodes", self.node["metadata"]["name"].as_str().unwrap()).unwrap()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        within(SOON, what, || {
            let object = self.object();
            if is_so(&object) { Ok(()) } else { Err(format!("{object:#}\n{}", self.agent.log())) }
        });
    }
}

/// The reason for which the network is there; none if it isn't.
fn available(object: &Value) -> Option<&str> {
    let conditions = object["status"]["conditions"].as_array()?;
    let network = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
    (network["status"] == "False").then(|| network["reason"].as_str()).flatten()
}

fn taints(object: &Value) -> Vec<&str> {
    let taints = object["spec"]["taints"].as_array().unwrap();
    taints.iter().map(|taint| taint["key"].as_str().unwrap()).collect()
}

#[test]
fn a_node_that_serves_pods_has_its_network_said_to_be_there_also_after_somebody_said_otherwise() {
    let _alone = alone();
    let Some(told) = Told::new("", Faults::default()) else { return };
    told.until("the network is there", |node| available(node) == Some("SelvedgeIsReady"));
    let object = told.object();
    let other = &object["status"]["conditions"][0];
    assert_eq!(
        (&other["type"], &other["status"]),
        (&json!("Ready"), &json!("True")),
        "others' conditions stay"
    );
    assert_eq!(taints(&object).len(), 2, "a taint stays where nobody asked for its end");
    told.server.put("nodes", told.node.clone());
    told.until("the network is there again", |node| available(node).is_some());
}

#[test]
fn the_taint_is_taken_away_where_configuration_asks_and_no_other_is() {
    let _alone = alone();
    let Some(told) = Told::new("removeTaint: true\n", Faults::default()) else { return };
    told.until("the taint is gone", |node| taints(node) == ["node.kubernetes.io/unschedulable"]);
    told.until("the network is there", |node| available(node).is_some());
}

#[test]
fn a_node_that_may_not_be_changed_is_served_all_the_same_and_the_refusal_is_told() {
    let _alone = alone();
    let faults = Faults { forbids_patches: true, ..Faults::default() };
    let Some(told) = Told::new("removeTaint: true\n", faults) else { return };
    told.agent.wait_until_ready();
    let problem = || told.agent.status().standing_problem;
    within(SOON, "the refusal is told", || problem().map(drop).ok_or_else(|| told.agent.log()));
    assert!(problem().unwrap().contains("Forbidden"), "{:?}", problem());
    assert!(told.agent.status().state.serves());
    told.server.fail(Faults::default());
    told.until("it is tried again", |node| available(node).is_some() && taints(node).len() == 1);
    within(SOON, "nothing is wrong any more", || problem().map_or(Ok(()), Err));
}

#[test]
fn an_attachment_that_no_pod_of_the_api_answers_for_is_told_and_nothing_is_done_about_it() {
    let _alone = alone();
    let Some(told) = Told::new("", Faults::default()) else { return };
    let node = &told.cluster.nodes[0];
    told.agent.wait_until_ready();
    let pod = told.cluster.attach(node, "left");
    let without = || told.agent.status().without_pod;
    within(SOON, "it is told", || {
        if without() == ["left/eth0"] { Ok(()) } else { Err(format!("{:?}", without())) }
    });
    let ips: Vec<Value> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
        "spec": {"nodeName": node.plan.name.as_str(), "containers": []}, "status": {"podIPs": ips}});
    told.server.put("pods", object);
    within(SOON, "its Pod is known", || if without().is_empty() { Ok(()) } else { Err(told.agent.log()) });
    told.server.delete("pods", "shop/web");
    within(SOON, "it is told again", || if without().is_empty() { Err(told.agent.log()) } else { Ok(()) });
    assert!(told.agent.status().wanted.attachments.len() == 1, "it keeps its network");
    told.cluster.detach(node, &pod);
}

/// One who follows an API for node `a`, and whose key is told there whether it serves pods or not.
struct Keyed {
    following: Following,
    server: ApiServer,
    key: Announced,
    told: Receiver<Option<String>>,
    folder: Folder,
}

impl Keyed {
    fn new(annotations: &Value) -> Self {
        let (place, folder) = (Namespace::create().unwrap(), Folder::new());
        let server = ApiServer::start(&place, 34);
        server.put("nodes", named_a(annotations));
        let kubeconfig = folder.join("kubeconfig");
        server.kubeconfig(&kubeconfig);
        let (key, (tell, told)) = (Announced::default(), channel());
        let told_by = Box::new(move |problem| tell.send(problem).unwrap_or_default());
        let duties = Duties { serves: Box::new(|| false), taint: true, key: key.clone(), told: told_by };
        let following = Following::start(&place, &kubeconfig, ("a", Some(duties)));
        Self { following, server, key, told, folder }
    }

    fn annotations(&self) -> Value {
        self.server.object("nodes", "a").unwrap()["metadata"]["annotations"].clone()
    }

    fn until_said(&self, annotations: &Value) {
        let is =
            || if self.annotations() == *annotations { Ok(()) } else { Err(self.annotations().to_string()) };
        within(SOON, "the key is said", is);
    }

    fn patches(&self) -> usize {
        self.server.requests().iter().filter(|request| *request == "PATCH nodes/a status").count()
    }
}

fn named_a(annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "annotations": annotations}})
}

fn said(key: PublicKey) -> Value {
    json!({"other": "stays", PublicKey::ANNOTATION: key})
}

#[test]
fn a_nodes_key_is_said_as_soon_as_it_is_another_and_taken_back_where_there_is_none() {
    let mut keyed = Keyed::new(&said(PublicKey([9; 32])));
    let seen = |keyed: &mut Keyed, key: Option<PublicKey>| {
        keyed.following.until(SOON, "others hear of it", |update| {
            let nodes = update.cluster.as_ref().map(|cluster| cluster.nodes());
            nodes.is_some_and(|nodes| nodes.get(&"a".parse().unwrap()).unwrap().wireguard == key)
        });
    };
    seen(&mut keyed, Some(PublicKey([9; 32])));
    thread::sleep(Duration::from_millis(1500));
    assert_eq!((keyed.patches(), keyed.annotations()), (0, said(PublicKey([9; 32]))), "it isn't known yet");
    for (patches, byte) in [(1, 1), (2, 2), (3, 3)] {
        let (key, since) = (PublicKey([byte; 32]), Instant::now());
        keyed.key.is(Some(key));
        keyed.until_said(&said(key));
        println!("said after {:?}", since.elapsed());
        seen(&mut keyed, Some(key));
        assert_eq!(keyed.patches(), patches);
    }
    keyed.server.put("nodes", named_a(&said(PublicKey([9; 32]))));
    keyed.until_said(&said(PublicKey([3; 32])));
    keyed.key.is(None);
    keyed.until_said(&json!({"other": "stays"}));
    seen(&mut keyed, None);
    assert!(keyed.told.try_recv().is_err(), "nothing was refused");
    drop(keyed.folder);
}

#[test]
fn a_key_that_may_not_be_said_is_told_and_said_once_it_may() {
    let keyed = Keyed::new(&json!({}));
    keyed.server.fail(Faults { forbids_patches: true, ..Faults::default() });
    keyed.key.is(Some(PublicKey([1; 32])));
    let problem = keyed.told.recv_timeout(Duration::from_secs_f64(SOON)).unwrap().unwrap();
    assert!(problem.starts_with("Node a can't be told its WireGuard key: "), "{problem}");
    keyed.server.fail(Faults::default());
    keyed.until_said(&json!({PublicKey::ANNOTATION: PublicKey([1; 32])}));
    let solved = || match keyed.told.recv_timeout(Duration::from_secs_f64(SOON)) {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    within(SOON, "nothing is wrong any more", solved);
}
