//! A node, and two containers whose calls are disturbed.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use selvedge_datapath::state::Address;
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_ipam::journal::{self, Operation};
use selvedge_lab::shape::Attach;
use selvedge_model::IfName;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Agent, Answer, Call, Cluster, Pod, Stage, Traces};
use serde_json::{Value, json};

use crate::strace::{Ended, Inject, Point, Recording, Strace};

/// The sysctls that the plugin sets on a node for good, with the kernel's defaults.
const SYSCTLS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_forward", "0"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "0"),
    ("/proc/sys/net/ipv4/conf/all/send_redirects", "1"),
];

/// A limit in bits and bits per second.
const RATE: u32 = 8_000_000;

/// More lines than a journal of one lease and two resting addresses may have.
const LONG: usize = 300;

/// How a network's pods are attached, and who looks after the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bridged, without an agent: the plugin makes the node's part itself. One pod finds room, with published ports
    /// and limits both ways.
    Bridge,
    /// Bridged without any of that, with room for a few.
    WideBridge,
    /// Routed, as an agent configures it that isn't there at the moment. One pod finds room.
    AgentAway,
    /// Routed, with a running agent. Many find room.
    Agent,
}

/// A node and the network under test, IPv4 and IPv6.
pub(crate) struct Scene {
    strace: Strace,
    /// The network's configuration.
    pub(crate) config: Value,
    /// The pod of `web-0`, whose calls are disturbed.
    pub(crate) victim: RefCell<Pod>,
    /// The pod of `web-1`.
    pub(crate) other: Pod,
    /// What the last ADD of `web-1` answered.
    pub(crate) result: RefCell<Value>,
    /// A pod as it was.
    pub(crate) empty: Traces,
    /// The node as it was.
    pub(crate) before: Traces,
    /// Where the network's state is.
    pub(crate) run_dir: PathBuf,
    /// The agent, where one runs.
    pub(crate) agent: Option<Agent>,
    /// A journal at its limit.
    long: RefCell<Option<String>>,
    node: Namespace,
    _cluster: Option<Cluster>,
    stage: Stage,
}

impl Scene {
    /// A new node; `None` where none can be made or nothing can be traced, which has been said.
    pub(crate) fn new(mode: Mode) -> Option<Self> {
        let stage = Stage::new()?;
        let strace = Strace::new(&stage)?;
        let cluster = match mode {
            Mode::Agent => Some(Cluster::build(1, Attach::Routed)?),
            _ => None,
        };
        if mode == Mode::AgentAway {
            let mut socket = RouteSocket::open_in(stage.node()).unwrap();
            let lo: IfName = "lo".parse().unwrap();
            let address = |net: &str| {
                let address = Address::global(net.parse().unwrap());
                NetStep::AddAddress { device: lo.clone(), address }
            };
            let up = NetStep::SetLink { name: lo.clone(), change: LinkChange::Up };
            let steps = [up, address("192.0.2.1/32"), address("2001:db8::1/128")];
            socket.apply_until_failure(&steps, None).unwrap();
        }
        let agent = cluster.as_ref().map(|cluster| cluster.nodes[0].ready_agent());
        let (node, run_dir, config) = match &cluster {
            None => {
                let run_dir = stage.folder().join("run");
                let config = config(mode, &run_dir);
                (stage.node().try_clone().unwrap(), run_dir, config)
            }
            Some(cluster) => {
                let node = &cluster.nodes[0];
                (node.namespace.try_clone().unwrap(), node.run_dir(), node.plugin_config())
            }
        };
        let other = stage.pod();
        let scene = Self {
            strace,
            config,
            victim: RefCell::new(stage.pod()),
            empty: Traces::in_pod(other.namespace()),
            other,
            result: RefCell::default(),
            before: Traces::on(&node, &run_dir),
            run_dir,
            agent,
            long: RefCell::default(),
            node,
            _cluster: cluster,
            stage,
        };
        Some(scene)
    }

    /// The node's namespace.
    pub(crate) fn node(&self) -> &Namespace {
        &self.node
    }

    /// Makes the node as it is after boot: no state and, where no agent does it, nothing forwarded.
    pub(crate) fn boot(&self) {
        if self.agent.is_some() {
            drop(fs::remove_dir_all(self.run_dir.join("ipam")));
            return;
        }
        drop(fs::remove_dir_all(&self.run_dir));
        fs::create_dir(&self.run_dir).unwrap();
        let write = || SYSCTLS.iter().try_for_each(|(path, value)| fs::write(path, value));
        self.node().run(write).unwrap().unwrap();
    }

    /// The same, and attaches `web-0`.
    pub(crate) fn attach(&self) {
        self.boot();
        self.call("ADD").run(self.node()).result();
    }

    /// The same, and attaches both.
    pub(crate) fn attach_both(&self) {
        self.attach();
        *self.result.borrow_mut() = self.call_of_other("ADD").run(self.node()).result().clone();
    }

    /// The same as [`Scene::boot`], and attaches `web-1` alone.
    pub(crate) fn attach_other(&self) {
        self.boot();
        *self.result.borrow_mut() = self.call_of_other("ADD").run(self.node()).result().clone();
    }

    /// The same, and attaches it to another network besides.
    pub(crate) fn attach_further(&self) {
        self.attach_other();
        self.call_of_further("ADD").run(self.node()).result();
    }

    /// A call for the interface `eth1` of `web-1`, which is in a network of its own.
    pub(crate) fn call_of_further(&self, verb: &str) -> Call {
        let mut config = self.config.clone();
        config["name"] = json!("othernet");
        config["bridge"] = json!("other0");
        config["network"] = json!(["10.99.0.0/16", "fd00:99::/48"]);
        config["ipam"] = json!({"ranges": [[{"subnet": "10.99.1.0/29"}], [{"subnet": "fd00:99:1::/64"}]]});
        Call::new(verb, config).of("web-1", &self.other).with("CNI_IFNAME", "eth1")
    }

    /// Attaches `web-0` with a journal so long that the next lease that is freed has it written anew.
    pub(crate) fn attach_with_a_long_journal(&self) {
        let folder = self.run_dir.join("ipam/mynet");
        let text = self.long.borrow().clone().unwrap_or_else(|| {
            self.attach();
            self.call("DEL").run(self.node()).done();
            let mut text = fs::read_to_string(folder.join("journal")).unwrap();
            let mut writer = journal::replay(text.as_bytes()).unwrap().writer;
            let cursor = Operation::Cursor("10.244.1.2/30".parse().unwrap());
            text.extend((0..LONG).map(|_| writer.line(&cursor)));
            text
        });
        self.boot();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("journal"), &text).unwrap();
        *self.long.borrow_mut() = Some(text);
        self.call("ADD").run(self.node()).result();
    }

    /// Gives `web-0` another pod; the one before is gone.
    pub(crate) fn replace_victim(&self) {
        drop(self.victim.replace(self.stage.pod()));
    }

    /// A call for `web-0`.
    pub(crate) fn call(&self, verb: &str) -> Call {
        Call::new(verb, self.config.clone()).of("web-0", &self.victim.borrow())
    }

    /// An ADD of `web-0` with published ports. Its DEL knows nothing of them.
    pub(crate) fn publish(&self) -> Call {
        let mapping = |protocol| json!({"hostPort": 8080, "containerPort": 80, "protocol": protocol});
        let mut config = self.config.clone();
        config["runtimeConfig"] = json!({"portMappings": [mapping("tcp"), mapping("udp")]});
        Call::new("ADD", config).of("web-0", &self.victim.borrow())
    }

    /// The node as it is after boot, with `web-0` attached and its ports published.
    pub(crate) fn attach_published(&self) {
        self.boot();
        self.publish().run(self.node()).result();
    }

    /// A call for `web-1`.
    pub(crate) fn call_of_other(&self, verb: &str) -> Call {
        Call::new(verb, self.config.clone()).of("web-1", &self.other)
    }

    /// A GC call after which only these containers' interfaces `eth0` are valid.
    pub(crate) fn gc(&self, valid: &[&str]) -> Call {
        let valid = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"}));
        let mut config = self.config.clone();
        config["cni.dev/valid-attachments"] = valid.collect();
        Call::new("GC", config)
    }

    /// A CHECK of `web-0` against what its ADD answered.
    pub(crate) fn check(&self, result: &Value) -> Answer {
        let call = Call::new("CHECK", self.after(result)).of("web-0", &self.victim.borrow());
        call.run(self.node())
    }

    /// A CHECK of `web-1` against what its ADD answered.
    pub(crate) fn check_other(&self) -> Answer {
        let config = self.after(&self.result.borrow());
        Call::new("CHECK", config).of("web-1", &self.other).run(self.node())
    }

    fn after(&self, result: &Value) -> Value {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        config
    }

    /// Records a call's system calls.
    pub(crate) fn record(&self, call: &Call) -> Recording {
        self.strace.record(call, self.node())
    }

    /// Disturbs a call; with whether it came to the point.
    pub(crate) fn disturb(&self, call: &Call, point: &Point, inject: Inject) -> (Ended, bool) {
        self.strace.disturb(call, (point, inject), self.node())
    }
}

fn config(mode: Mode, run_dir: &Path) -> Value {
    // Of a /30 the gateway and one pod are left.
    let (subnet, last) =
        if mode == Mode::WideBridge { ("10.244.1.0/29", "6") } else { ("10.244.1.0/30", "2") };
    let six = |end: &str| format!("fd00:10:244:1::{end}");
    let pools = json!([
        [{"subnet": subnet}],
        [{"subnet": six("/64"), "rangeStart": six("2"), "rangeEnd": six(last)}],
    ]);
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "mynet",
        "type": "selvedge",
        "network": ["10.244.0.0/16", "fd00:10:244::/48"],
        "ipam": {"ranges": pools},
        "runDir": run_dir,
    });
    if mode == Mode::Bridge {
        config["runtimeConfig"] = json!({
            "bandwidth": {"ingressRate": RATE, "ingressBurst": RATE, "egressRate": RATE, "egressBurst": RATE},
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
            ],
        });
    }
    if mode == Mode::AgentAway {
        config["attach"] = json!("routed");
        config["agent"] = json!(run_dir.join("agent.sock"));
        config["whenAgentDown"] = json!("open");
        config["nodeAddresses"] = json!(["192.0.2.1", "2001:db8::1"]);
    }
    config
}
