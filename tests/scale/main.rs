//! `make scale`: one agent in a cluster of 5,000 nodes and 50,000 pods, against the API server double: how long until it
//! knows all of it and has made its node so, its memory, and its processor time while pods change.
//!
//! The objects are as large as they are in the field, 7 kB each. The double is a debug build on the same machine: the
//! time to the first state has its time in it, the processor time is the agent's own.
#![cfg(test)]

use std::fs;
use std::time::{Duration, Instant};

use selvedge_datapath::state::Address;
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::Attach;
use selvedge_netlink::RouteSocket;
use selvedge_tests::{Agent, ApiServer, Cluster, within};
use serde_json::{Value, json};

const NODES: usize = 5_000;
const PODS: usize = 50_000;

/// As many pods as a kubelet takes by default.
const OWN_PODS: usize = 110;

/// Pods that change in a second, all of them this node's: more than a node ever has.
const CHANGES_A_SECOND: u32 = 100;

/// An object's size in bytes, most of which is nothing to us.
const SIZE: usize = 7_000;

/// What an agent may need at rest, in bytes: it knows all pods of the cluster, for the policies that may admit them.
const MOST_MEMORY: u64 = 100 << 20;

/// For how long pods change, in seconds, unless the variable says otherwise.
const SECONDS: &str = "SCALE_SECONDS";
const SECONDS_UNLESS_SAID: u64 = 60;

/// The variable that names the page which the figures are written to.
const PAGE: &str = "SCALE_PAGE";

#[test]
fn one_agent_among_thousands_of_nodes() {
    let Some(cluster) = Cluster::build(2, Attach::Routed) else { return };
    let [own, _] = &cluster.nodes[..] else { panic!("two nodes") };
    let segment = Address::global("172.31.255.254/16".parse().unwrap());
    let wider = NetStep::AddAddress { device: "eth0".parse().unwrap(), address: segment };
    RouteSocket::open_in(&own.namespace).unwrap().apply_until_failure(&[wider], None).unwrap();
    let server = ApiServer::start(&own.namespace, 36);
    let name = own.plan.name.as_str();
    server.load("nodes", (1..NODES).map(peer).chain([own.object(&own.plan.pod_cidrs)]));
    server.load(
        "pods",
        (0..PODS).map(|number| pod(number, if number < OWN_PODS { name } else { "elsewhere" })),
    );
    let file = own.folder().join("kubeconfig");
    server.kubeconfig(&file);
    let began = Instant::now();
    let agent = own.agent_of(("--kubeconfig", &file));
    within(300.0, "the node has a route to each other one", || {
        let routes = agent.status().wanted.routes.len();
        if routes >= NODES - 1 { Ok(()) } else { Err(format!("{routes} routes\n{}", agent.log())) }
    });
    let mut figures = Figures(Vec::new());
    figures.add("until the first state is in force", format!("{:.1} s", began.elapsed().as_secs_f64()));
    std::thread::sleep(Duration::from_secs(5));
    figures.add("memory at most until then", megabytes(memory(&agent, "VmHWM:")));
    figures.add("memory at rest", megabytes(memory(&agent, "VmRSS:")));
    let seconds =
        std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS_UNLESS_SAID);
    let (used, lasted) = change_pods(&server, (name, &agent), Duration::from_secs(seconds));
    let share = used.as_secs_f64() / lasted.as_secs_f64() * 100.0;
    let time = format!("processor, over {} s of {CHANGES_A_SECOND} changes a second", lasted.as_secs());
    figures.add(&time, format!("{share:.1} % of a core"));
    let memory = memory(&agent, "VmRSS:");
    figures.add(&format!("memory afterwards (target {})", megabytes(MOST_MEMORY)), megabytes(memory));
    figures.write();
    assert!(memory <= MOST_MEMORY);
    assert!(agent.status().state.serves(), "{:?}", agent.status().state);
}

/// What was measured, by name.
struct Figures(Vec<(String, String)>);

impl Figures {
    fn add(&mut self, name: &str, value: String) {
        println!("{name}: {value}");
        self.0.push((name.to_owned(), value));
    }

    /// Writes the page, if somebody named one.
    fn write(&self) {
        let Some(page) = std::env::var_os(PAGE) else { return };
        let rows: String = self.0.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
        let text = format!(
            "# Scale\n\n`make scale` writes this page: one agent on a node with {OWN_PODS} pods, in a cluster of {NODES} nodes \
             and {PODS} pods,\nobjects of {SIZE} bytes each, listed and watched from a test double of the API server on \
             the same machine.\nAll changes are of this node's own pods.\n\n| | |\n|---|---|\n{rows}"
        );
        fs::write(page, text).unwrap();
    }
}

/// Changes this node's pods for a while; the processor time that the agent needed meanwhile, and how long it was.
fn change_pods(server: &ApiServer, (node, agent): (&str, &Agent), time: Duration) -> (Duration, Duration) {
    let (before, began) = (processor(agent), Instant::now());
    let mut changes = 0;
    while began.elapsed() < time {
        let number = usize::try_from(changes).unwrap_or_default() % OWN_PODS;
        let mut changed = pod(number, node);
        changed["metadata"]["labels"]["round"] = changes.to_string().into();
        // One in twenty has lost its address, which it gets back in its next round.
        if changes % 20 == 0 {
            changed["status"]["podIPs"] = json!([]);
        }
        server.put("pods", changed);
        changes += 1;
        std::thread::sleep(
            (Duration::from_secs(1) * changes / CHANGES_A_SECOND).saturating_sub(began.elapsed()),
        );
    }
    (processor(agent) - before, began.elapsed())
}

/// A node on the same segment as ours.
fn peer(number: usize) -> Value {
    let cidr = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("peer-{number}"), "managedFields": padding()},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("172.31.{}.{}", number / 250, 1 + number % 250)}]}})
}

fn pod(number: usize, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": format!("team-{}", number % 50), "name": format!("pod-{number}"), "uid": format!("u-{number}"),
            "labels": {"app": format!("app-{}", number % 500)}, "managedFields": padding()},
        "spec": {"nodeName": node, "containers": []},
        "status": {"podIPs": [{"ip": format!("10.99.{}.{}", number / 250 % 250, 1 + number % 250)}]}})
}

fn padding() -> Value {
    json!([{"manager": "kubelet", "fieldsV1": {"f:padding": "x".repeat(SIZE)}}])
}

/// A line of /proc/PID/status that is an amount of memory, in bytes.
fn memory(agent: &Agent, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The processor time that it has used, in user and kernel mode.
fn processor(agent: &Agent) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    // Behind the name, which may have anything in it; see proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}
