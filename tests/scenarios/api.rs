//! The cluster as the Kubernetes API tells of it: followed through whatever an API server does.

mod policies;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_lab::shape::Attach;
use selvedge_reconcile::status::State;
use selvedge_source::kubernetes::Update;
use selvedge_tests::{Agent, ApiServer, Cluster, Echo, Faults, Front, Stage, knock, within};
use serde_json::{Value, json};

use crate::following::{Following, brief, nodes, pods};
use crate::site::{delete_route, wait_until_known};

/// A server before and one after lists were streamed as a matter of course.
const OLD: u32 = 20;
const NEW: u32 = 36;

/// More nodes than a page of a list has.
const MANY: usize = 1200;

/// How soon a change is known, in seconds.
const SOON: f64 = 30.0;

/// How soon a server that was away is noticed, in seconds: the pause between two tries is up to half a minute.
const AFTER_RETRIES: f64 = 90.0;

/// How soon it is noticed, in seconds, that nothing comes through any more: a sign of life is asked for each 20.
const SWALLOWED: f64 = 90.0;

/// A server, and somebody who follows it for `node-0`.
struct Followed {
    server: Option<ApiServer>,
    following: Following,
    stage: Stage,
}

impl Followed {
    fn new(minor: u32, nodes: usize) -> Option<Self> {
        Self::by(minor, nodes, |server, _, file| server.kubeconfig(file)).map(|(followed, ())| followed)
    }

    /// The server is reached as the kubeconfig says that `way` writes.
    fn by<T>(
        minor: u32,
        nodes: usize,
        way: impl FnOnce(&ApiServer, &Stage, &Path) -> T,
    ) -> Option<(Self, T)> {
        let stage = Stage::new()?;
        let server = ApiServer::start(stage.node(), minor);
        (0..nodes).for_each(|number| server.put("nodes", node(number)));
        let file: PathBuf = stage.folder().join("kubeconfig");
        let way = way(&server, &stage, &file);
        let following = Following::start(stage.node(), &file, ("node-0", None));
        Some((Self { server: Some(server), following, stage }, way))
    }

    fn server(&self) -> &ApiServer {
        self.server.as_ref().unwrap()
    }

    /// Waits for an update of which something is true.
    fn until(&mut self, seconds: f64, what: &str, is: impl Fn(&Update) -> bool) -> Update {
        self.following.until(seconds, what, is)
    }

    fn until_nodes(&mut self, count: usize) -> Update {
        self.until(SOON, &format!("{count} nodes"), |update| nodes(update) == Some(count))
    }
}

/// The way to a server by a front that speaks TLS.
fn by_tls(server: &ApiServer, stage: &Stage, file: &Path) -> Front {
    let front = Front::start(stage.node(), server.address());
    front.kubeconfig(file);
    front
}

fn node(number: usize) -> Value {
    let cidr = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
    let address = format!("192.0.{}.{}", 2 + number / 256, number % 256);
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}"), "uid": "u"},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": address}]}})
}

fn pod(name: &str, on: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "uid": "u-1", "labels": {"app": name}},
        "spec": {"nodeName": on, "containers": []}, "status": {"podIPs": [{"ip": "10.100.0.9"}]}})
}

#[test]
fn nodes_and_pods_are_listed_and_followed_by_old_and_new_servers() {
    for minor in [OLD, NEW] {
        let Some(mut followed) = Followed::new(minor, 2) else { return };
        followed.server().put("pods", pod("web-0", "node-0"));
        followed.server().put("pods", pod("web-1", "node-1"));
        followed.server().put("pods", pod("web-2", ""));
        followed.until(SOON, "the pods", |update| pods(update) == Some(3));
        followed.server().put("nodes", node(2));
        let update = followed.until_nodes(3);
        assert!(
            update.whole && update.problems.is_empty() && update.lost.is_none(),
            "{:?}",
            brief(Some(&update))
        );
        let cluster = update.cluster.unwrap();
        let node = cluster.nodes().get(&"node-2".parse().unwrap()).unwrap();
        assert_eq!(node.pod_cidrs, ["10.100.2.0/24".parse().unwrap()]);
        assert_eq!(node.addresses, ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
        for (name, uid) in [("web-0", Some("u-1")), ("web-1", None), ("web-2", Some("u-1"))] {
            let pod = &cluster.pods()[&format!("shop/{name}").parse().unwrap()];
            assert_eq!(
                (pod.uid.as_deref(), pod.labels["app"].as_str()),
                (uid, name),
                "of ours alone the UID"
            );
        }
        followed.server().delete("nodes", "node-2");
        followed.until_nodes(2);
        followed.server().delete("pods", "shop/web-1");
        followed.until(SOON, "a pod of another node goes", |update| pods(update) == Some(2));
        let streamed =
            followed.server().requests().iter().any(|request| request.contains("sendInitialEvents"));
        assert_eq!(streamed, minor == NEW, "{:?}", followed.server().requests());
    }
}

#[test]
fn a_new_server_that_refuses_lists_as_streams_is_asked_for_pages() {
    let faulty = |server: &ApiServer, _: &Stage, file: &Path| {
        server.fail(Faults { refuses_streams: true, ..Faults::default() });
        server.kubeconfig(file);
    };
    let Some((mut followed, ())) = Followed::by(NEW, 2, faulty) else { return };
    let update = followed.until_nodes(2);
    assert!(update.whole && update.problems.is_empty(), "{:?}", brief(Some(&update)));
    followed.server().put("nodes", node(2));
    followed.until_nodes(3);
}

#[test]
fn a_list_that_breaks_off_half_way_is_none() {
    let Some(mut followed) = Followed::new(OLD, MANY) else { return };
    followed.until_nodes(MANY);
    followed.server().fail(Faults { half_lists: true, gone: true, ..Faults::default() });
    followed.server().put("nodes", node(MANY));
    followed.until_nodes(MANY + 1);
    followed.server().end_watches();
    let update = followed.until(SOON, "the failure is told", |update| !update.problems.is_empty());
    assert_eq!(nodes(&update), Some(MANY + 1));
    assert!(update.lost.is_some());
    followed.server().fail(Faults::default());
    followed.server().delete("nodes", "node-7");
    let found = followed.until(AFTER_RETRIES, "all is well", |update| update.lost.is_none());
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    followed.until(AFTER_RETRIES, "one is gone", |update| nodes(update) == Some(MANY));
}

#[test]
fn a_server_that_is_away_leaves_the_last_state_in_force_and_is_followed_again() {
    let Some(mut followed) = Followed::new(NEW, 3) else { return };
    followed.until_nodes(3);
    let away = followed.server.take().unwrap().stop();
    let update = followed.until(SOON, "the loss is told", |update| update.lost.is_some());
    assert_eq!(nodes(&update), Some(3));
    assert!(
        update.problems.iter().any(|problem| problem.contains("Kubernetes API")),
        "{:?}",
        update.problems
    );
    away.put("nodes", node(3));
    followed.server = Some(away.resume(followed.stage.node()));
    let back = |update: &Update| update.lost.is_none() && nodes(update) == Some(4);
    followed.until(AFTER_RETRIES, "it is followed again", back);
}

#[test]
fn lists_that_are_none_are_asked_for_ever_more_rarely_and_the_loss_counts_from_the_first() {
    let Some(mut followed) = Followed::new(OLD, 2) else { return };
    followed.until_nodes(2);
    followed.server().fail(Faults { garbled_lists: true, gone: true, ..Faults::default() });
    let asked = |followed: &Followed| {
        let requests = followed.server().requests();
        requests.iter().filter(|request| request.starts_with("nodes?") && !request.contains("watch")).count()
    };
    let before = asked(&followed);
    followed.server().end_watches();
    let first = followed.until(SOON, "the loss is told", |update| update.lost.is_some()).lost;
    std::thread::sleep(Duration::from_secs(12));
    let lists = asked(&followed) - before;
    assert!((2..=8).contains(&lists), "{lists} lists in twelve seconds");
    let update = followed.until(SOON, "the last word", |update| update.lost.is_some());
    assert_eq!((update.lost, nodes(&update)), (first, Some(2)));
    followed.server().fail(Faults::default());
    followed.until(AFTER_RETRIES, "all is well", |update| update.lost.is_none());
}

#[test]
fn a_line_that_is_no_json_of_ours_has_everything_listed_again() {
    let Some(mut followed) = Followed::new(NEW, 2) else { return };
    followed.until_nodes(2);
    followed.server().send("nodes", r#"{"type": "MODIFIED", "object": {"metadata": {"name": 7}}}"#);
    followed.until(SOON, "that is told", |update| !update.problems.is_empty());
    followed.server().put("nodes", node(2));
    followed.until(AFTER_RETRIES, "all is well", |update| nodes(update) == Some(3) && update.lost.is_none());
}

#[test]
fn a_node_with_a_field_that_cannot_be_read_keeps_its_last_good_form() {
    let Some(mut followed) = Followed::new(NEW, 2) else { return };
    let whole = followed.until_nodes(2);
    let mut bad = node(1);
    bad["spec"]["podCIDRs"] = json!(["10.100.1.0/33"]);
    followed.server().put("nodes", bad.clone());
    let update = followed.until(SOON, "the field is named", |update| !update.problems.is_empty());
    assert!(
        update.problems[0].starts_with("Node node-1: spec.podCIDRs[0] \"10.100.1.0/33\""),
        "{:?}",
        update.problems
    );
    assert_eq!((&update.cluster, update.whole), (&whole.cluster, true));
    // Of one that was never read nothing is known: nothing may be pruned then.
    bad["metadata"]["name"] = json!("node-9");
    followed.server().put("nodes", bad);
    let update = followed.until(SOON, "the other is named", |update| update.problems.len() == 2);
    assert!(!update.whole);
}

#[test]
fn a_token_that_expired_is_told_of_and_then_forgotten() {
    let Some(mut followed) = Followed::new(NEW, 2) else { return };
    followed.until_nodes(2);
    followed.server().fail(Faults { refuses: Some(401), ..Faults::default() });
    followed.server().end_watches();
    let update = followed.until(SOON, "it is told", |update| update.lost.is_some());
    assert!(update.problems.iter().any(|problem| problem.contains("Unauthorized")), "{:?}", update.problems);
    followed.server().fail(Faults::default());
    followed
        .until(AFTER_RETRIES, "all is well", |update| update.lost.is_none() && update.problems.is_empty());
}

#[test]
fn all_goes_by_one_connection_and_a_network_that_swallows_everything_is_noticed() {
    let Some((mut followed, front)) = Followed::by(NEW, 3, by_tls) else { return };
    followed.server().put("pods", pod("web-0", "node-0"));
    followed.until(SOON, "the pod", |update| pods(update) == Some(1));
    assert_eq!(front.connections(), 1, "{:?}", followed.server().requests());
    front.swallow(true);
    let update = followed.until(SWALLOWED, "the loss is told", |update| update.lost.is_some());
    assert_eq!(nodes(&update), Some(3));
    front.swallow(false);
    followed.server().put("nodes", node(3));
    let back = |update: &Update| update.lost.is_none() && nodes(update) == Some(4);
    followed.until(AFTER_RETRIES, "it is followed again", back);
}

#[test]
fn a_server_with_another_certificate_is_trusted_once_the_kubeconfig_says_so() {
    let Some((mut followed, front)) = Followed::by(NEW, 2, by_tls) else { return };
    followed.until_nodes(2);
    drop(front);
    followed.until(SOON, "the loss is told", |update| update.lost.is_some());
    followed.server().put("nodes", node(2));
    let other = Front::start(followed.stage.node(), followed.server().address());
    other.kubeconfig(&followed.stage.folder().join("kubeconfig"));
    let back = |update: &Update| update.lost.is_none() && nodes(update) == Some(3);
    followed.until(AFTER_RETRIES, "it is followed again", back);
    drop(other);
}

#[test]
fn an_agent_that_follows_the_api_wires_its_node_and_says_how_old_its_knowledge_is() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let server = ApiServer::start(&a.namespace, NEW);
    let (file, stage) = (a.folder().join("kubeconfig"), &a.namespace);
    server.kubeconfig(&file);
    let mut bare = a.object(&[]);
    bare["spec"] = json!({});
    server.put("nodes", bare);
    server.put("nodes", b.object(&b.plan.pod_cidrs));
    let agent = a.agent_of(("--kubeconfig", &file));
    within(SOON, "it waits for a subnet", || {
        let state = format!("{:?}", agent.status().state);
        if state.contains("podCIDR") { Ok(()) } else { Err(state) }
    });
    server.put("nodes", a.object(&a.plan.pod_cidrs));
    agent.wait_until_ready();
    assert_eq!(agent.status().wanted.routes.len(), b.plan.pod_cidrs.len());
    let away = server.stop();
    within(SOON, "it says since when", || agent.status().source_lost_ms.map(drop).ok_or_else(|| agent.log()));
    let status = agent.status();
    assert!(status.state.serves() && !status.source_problems.is_empty(), "{status:?}");
    assert_eq!(status.wanted.routes.len(), b.plan.pod_cidrs.len());
    agent.kill();
    let server = away.resume(stage);
    let agent = a.agent_of(("--kubeconfig", &file));
    agent.wait_until_ready();
    server.delete("nodes", b.plan.name.as_str());
    within(SOON, "the peer's routes go", || {
        let routes = agent.status().wanted.routes.clone();
        if routes.is_empty() { Ok(()) } else { Err(format!("{routes:?}")) }
    });
}

#[test]
fn what_the_api_refuses_an_agent_is_told_in_words_and_by_the_agent_alone() {
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let server = ApiServer::start(&node.namespace, NEW);
    server.fail(Faults { refuses: Some(403), ..Faults::default() });
    let file = node.folder().join("kubeconfig");
    server.kubeconfig(&file);
    let agent = node.agent_of(("--kubeconfig", &file));
    let problems = within(SOON, "it is told", || match agent.status().source_problems {
        none if none.is_empty() => Err(agent.log()),
        problems => Ok(problems),
    });
    assert!(problems[0].contains("Forbidden (403 Forbidden)"), "{problems:?}");
    let log = agent.log();
    assert!(log.contains("Forbidden (403 Forbidden)") && !log.contains("Status {"), "{log}");
}

#[test]
fn an_agent_that_starts_without_the_api_serves_its_node_as_it_was_served_before() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let server = ApiServer::start(&a.namespace, NEW);
    let file = a.folder().join("kubeconfig");
    server.kubeconfig(&file);
    [a, b].into_iter().for_each(|node| server.put("nodes", node.object(&node.plan.pod_cidrs)));
    let agent = a.agent_of(("--kubeconfig", &file));
    agent.wait_until_ready();
    agent.kill();
    let away = server.stop();
    let before = a.picture().disowned();
    let agent = a.agent_of(("--kubeconfig", &file));
    until_it_serves_by_what_is_there(&agent);
    // The routes to peers and what is not masqueraded stay: nobody said that they are gone.
    assert_eq!(before.changes_to(&a.picture().disowned()), "", "{}", agent.log());
    let pod = cluster.attach(a, "web");
    let _echo = Echo::serve(pod.pod.namespace());
    wait_until_known(&agent, &pod);
    delete_route(a, &format!("{}/32", pod.addresses[0]));
    within(SOON, "the pod's route is back", || {
        knock(&a.namespace, pod.addresses[0]).map_err(|e| e.to_string())
    });
    cluster.detach(a, &pod);
    away.put("nodes", a.object(&a.plan.pod_cidrs));
    let _server = away.resume(&a.namespace);
    within(AFTER_RETRIES, "it has caught up", || {
        let status = agent.status();
        let done = status.state == State::Ready && status.source_problems.is_empty();
        if done { Ok(()) } else { Err(format!("{:?}\n{}", status.state, agent.log())) }
    });
}

#[test]
fn after_a_boot_without_the_api_the_conflist_says_what_the_node_needs() {
    let Some(cluster) = Cluster::build(1, Attach::Bridge) else { return };
    let node = &cluster.nodes[0];
    node.ready_agent().kill();
    let (served, folder) = (fs::read_to_string(node.conflist()).unwrap(), node.folder().to_owned());
    let Some(cluster) = Cluster::build(1, Attach::Bridge) else { return };
    let node = &cluster.nodes[0];
    let served = served.replace(folder.to_str().unwrap(), node.folder().to_str().unwrap());
    fs::create_dir_all(node.conflist().parent().unwrap()).unwrap();
    fs::write(node.conflist(), &served).unwrap();
    let nowhere = node.folder().join("kubeconfig");
    let server = ApiServer::start(&node.namespace, NEW);
    server.kubeconfig(&nowhere);
    drop(server);
    let agent = node.agent_of(("--kubeconfig", &nowhere));
    until_it_serves_by_what_is_there(&agent);
    assert_eq!(fs::read_to_string(node.conflist()).unwrap(), served);
    assert!(node.run_dir().join("ready").exists());
    let pod = cluster.attach(node, "web");
    let _echo = Echo::serve(pod.pod.namespace());
    pod.addresses.iter().for_each(|address| knock(&node.namespace, *address).unwrap());
}

fn until_it_serves_by_what_is_there(agent: &Agent) {
    within(SOON, "it serves by what is there", || match agent.status().state {
        State::Degraded { reasons } if reasons.iter().any(|why| why.contains("as it did before")) => Ok(()),
        other => Err(format!("{other:?}\n{}", agent.log())),
    });
}
