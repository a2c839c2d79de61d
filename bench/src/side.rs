//! The sides that are measured, and what each is given.

use std::fmt::{self, Display, Formatter};
use std::mem;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Flags;
use crate::agent::Agent;
use crate::call::{Plugin, Verb};
use crate::error::BenchError;
use crate::lease;
use crate::node::{Node, Timed};

/// The network that all sides attach their pods to.
const NETWORK: &str = "bench";
/// Its addresses.
const SUBNET: &str = "10.244.0.0/16";

/// What a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Debian's bridge + host-local, which the others are held against.
    Reference,
    /// Ours as the tutorials configure it, without an agent: like for like.
    Bridge,
    /// Ours routed, without an agent.
    Routed,
    /// Ours routed, on a node with an agent.
    Agent,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "bridge + host-local",
            Self::Bridge => "selvedge, bridge",
            Self::Routed => "selvedge, routed",
            Self::Agent => "selvedge, routed, agent",
        })
    }
}

/// A plugin on a node of its own.
#[derive(Debug)]
pub(crate) struct Side {
    kind: Kind,
    node: Node,
    plugin: Plugin,
    /// What ADD printed for each pod that is attached: the first so many of the node's.
    attached: Vec<Value>,
    /// Ends with the side.
    _agent: Option<Agent>,
    /// How many leases of other containers the network has.
    leases: u16,
}

impl Side {
    /// Makes a side's node, and starts its agent if it has one.
    pub(crate) fn new(kind: Kind, flags: &Flags) -> Result<Self, BenchError> {
        let node = Node::new(&format!("{kind:?}"), flags.effort.most_pods())?;
        let agent = (kind == Kind::Agent).then(|| Agent::start(&flags.programs, &node, 3)).transpose()?;
        let config = match &agent {
            Some(agent) => agent.plugin_config()?,
            None => config(kind, &node),
        };
        let program = match kind {
            Kind::Reference => flags.reference.join("usr/lib/cni/bridge"),
            _ => flags.programs.join("selvedge"),
        };
        Ok(Self {
            kind,
            node,
            plugin: Plugin { program, config },
            attached: Vec::new(),
            _agent: agent,
            leases: 0,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Gives the network so many leases of other containers, if it hasn't got them.
    pub(crate) fn lease(&mut self, leases: u16) -> Result<(), BenchError> {
        let store = store(&self.node);
        let leases = self.leases..leases.max(self.leases);
        self.leases = leases.end;
        match self.kind {
            Kind::Reference => lease::by_files(&store.join(NETWORK), leases),
            _ => self.node.namespace().run(|| lease::in_journal(&store, NETWORK, leases))?,
        }
    }

    /// Attaches the next pod.
    pub(crate) fn add(&mut self) -> Result<Duration, BenchError> {
        let timed = self.node.call(&self.plugin, Verb::Add, self.attached.len())?;
        self.attached.push(timed.result()?);
        Ok(timed.took)
    }

    /// Detaches the pod that was attached last.
    pub(crate) fn del(&mut self) -> Result<Duration, BenchError> {
        let previous = self.attached.pop().unwrap_or_default();
        Ok(self.node.call(&self.plugin, Verb::Del(&previous), self.attached.len())?.took)
    }

    /// The most memory that one ADD has resident, in bytes; the pod is detached again.
    pub(crate) fn memory_of_add(&mut self) -> Result<u64, BenchError> {
        let (bytes, timed) = self.node.peak_memory(&self.plugin, Verb::Add, self.attached.len())?;
        self.attached.push(timed.result()?);
        self.del()?;
        Ok(bytes)
    }

    pub(crate) fn version(&self) -> Result<Duration, BenchError> {
        Ok(self.node.call(&self.plugin, Verb::Version, 0)?.took)
    }

    /// Attaches so many pods at once, while none is attached.
    pub(crate) fn add_at_once(&mut self, pods: usize) -> Result<Vec<Duration>, BenchError> {
        let timed = self.node.call_at_once(&self.plugin, vec![Verb::Add; pods])?;
        self.attached = timed.iter().map(Timed::result).collect::<Result<_, _>>()?;
        Ok(timed.iter().map(|timed| timed.took).collect())
    }

    /// Detaches every pod at once.
    pub(crate) fn del_at_once(&mut self) -> Result<Vec<Duration>, BenchError> {
        let previous = mem::take(&mut self.attached);
        let timed = self.node.call_at_once(&self.plugin, previous.iter().map(Verb::Del))?;
        Ok(timed.iter().map(|timed| timed.took).collect())
    }
}

/// The network configuration of a side without an agent.
fn config(kind: Kind, node: &Node) -> Value {
    let store = store(node);
    let mut config = json!({"cniVersion": "1.0.0", "name": NETWORK});
    let own = match kind {
        Kind::Reference => json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": store,
                "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": "0.0.0.0/0"}]
            }
        }),
        Kind::Bridge => json!({"type": "selvedge", "network": SUBNET, "subnet": SUBNET, "runDir": store}),
        Kind::Routed | Kind::Agent => json!({
            "type": "selvedge", "attach": "routed", "network": SUBNET, "subnet": SUBNET, "runDir": store
        }),
    };
    for (key, value) in own.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn store(node: &Node) -> PathBuf {
    node.folder().join("store")
}
