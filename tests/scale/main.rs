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

/// What an agent may need at rest, in bytes.
const MOST_MEMORY: u64 = 100 << 20;

/// For how long pods change, in seconds, unless the variable says otherwise.
const SECONDS: &str = "SCALE_SECONDS";
const SECONDS_UNLESS_SAID: u64 = 60;

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
    let routes = within(300.0, "the node has its routes", || {
        let routes = agent.status().wanted.routes.len();
        if routes >= NODES - 1 { Ok(routes) } else { Err(format!("{routes} routes\n{}", agent.log())) }
    });
    println!("{NODES} nodes, {PODS} pods of {SIZE} bytes, {OWN_PODS} of them here: {routes} routes");
    println!("first state in force after  {:.1} s", began.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(5));
    println!(
        "memory: most {}, at rest {}",
        megabytes(memory(&agent, "VmHWM:")),
        megabytes(memory(&agent, "VmRSS:"))
    );
    let seconds =
        std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS_UNLESS_SAID);
    let (used, lasted) = change_pods(&server, (name, &agent), Duration::from_secs(seconds));
    let share = used.as_secs_f64() / lasted.as_secs_f64();
    println!(
        "processor: {:.1} % of one core over {} s of {CHANGES_A_SECOND} changes a second",
        share * 100.0,
        lasted.as_secs()
    );
    let memory = memory(&agent, "VmRSS:");
    println!("memory afterwards: {} (at most {})", megabytes(memory), megabytes(MOST_MEMORY));
    assert!(memory <= MOST_MEMORY);
    assert!(agent.status().state.serves(), "{:?}", agent.status().state);
}

/// Changes this node's pods for a while; the processor time that the agent needed meanwhile, and how long it was.
fn change_pods(server: &ApiServer, (node, agent): (&str, &Agent), time: Duration) -> (Duration, Duration) {
    let (before, began) = (processor(agent), Instant::now());
    let mut changes = 0;
    while began.elapsed() < time {
        let number = usize::try_from(changes).unwrap_or_default() % OWN_PODS;
        let mut changed = pod(number, node);
        changed["metadata"]["labels"]["round"] = (changes / 1000).to_string().into();
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
