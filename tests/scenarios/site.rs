//! A node with an agent and a pod, and what it takes to break it.

use std::fmt::Debug;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use selvedge_datapath::state::Address;
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_lab::shape::Attach;
use selvedge_model::IfName;
use selvedge_netlink::RouteSocket;
use selvedge_nft::{NftError, NftSocket};
use selvedge_reconcile::Status;
use selvedge_ruleset::{Change, Listed, TableId, Transaction};
use selvedge_tests::{Agent, Attached, Cluster, Node, within};

/// What is broken must be back after so many seconds.
const REPAIRED_WITHIN: f64 = 1.0;

/// `node-a` with its agent and a pod, and `node-b`, which nobody looks after.
pub(crate) struct Site {
    pub(crate) agent: Agent,
    pub(crate) pod: Attached,
    pub(crate) cluster: Cluster,
    pub(crate) _alone: MutexGuard<'static, ()>,
}

/// Keeps the other scenarios waiting: one that measures a second has the machine for itself.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// A site where nothing is left to do for the agent.
    pub(crate) fn new(attach: Attach) -> Option<Self> {
        let alone = alone();
        let cluster = Cluster::build(2, attach)?;
        let agent = cluster.nodes[0].ready_agent();
        let pod = cluster.attach(&cluster.nodes[0], "web");
        wait_until_known(&agent, &pod);
        let status = agent.status();
        assert!(status.repaired.is_empty(), "attaching a pod is no drift: {:?}", status.repairs);
        Some(Self { agent, pod, cluster, _alone: alone })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    /// Breaks something. The node must be as before within a second, and the agent must have counted an object of
    /// that kind and named a step with those words in it.
    pub(crate) fn must_be_repaired(&self, (object, words): (&str, &str), break_it: impl FnOnce()) {
        let before = self.node().picture();
        let counted = self.count(object);
        break_it();
        within(REPAIRED_WITHIN, "the node is as before", || {
            let now = self.node().picture();
            if now == before {
                return Ok(());
            }
            Err(format!("{}\n{}", before.changes_to(&now), self.agent.log()))
        });
        within(REPAIRED_WITHIN, "the agent names the repair", || {
            let status = self.agent.status();
            let named = status.repairs.iter().any(|repair| repair.step.contains(words));
            if named && self.count(object) > counted { Ok(()) } else { Err(told(&status)) }
        });
    }

    fn count(&self, object: &str) -> u64 {
        self.agent.status().repaired.get(object).copied().unwrap_or_default()
    }

    /// Makes changes on the node as somebody else.
    pub(crate) fn change(&self, steps: &[NetStep]) {
        let mut socket = RouteSocket::open_in(&self.node().namespace).unwrap();
        socket.apply_until_failure(steps, None).unwrap();
    }

    pub(crate) fn set_link(&self, link: &str, change: LinkChange) {
        self.change(&[NetStep::SetLink { name: name(link), change }]);
    }

    /// Deletes the routes to a destination.
    pub(crate) fn delete_route(&self, destination: &str) {
        delete_route(self.node(), destination);
    }

    /// Deletes an address from a link.
    pub(crate) fn delete_address(&self, link: &str, net: &str) {
        let address = Address::global(net.parse().unwrap());
        self.change(&[NetStep::DeleteAddress { device: name(link), address }]);
    }
}

/// Looks at a table and makes changes to it, as somebody else on a node.
pub(crate) fn change_table(
    node: &Node,
    table: &TableId,
    changes: impl FnOnce(&Listed) -> Vec<Change> + Send,
) -> Result<(), NftError> {
    let inside = || {
        let mut socket = NftSocket::open()?;
        let listed = socket.list(std::slice::from_ref(table))?;
        let mut transaction = Transaction::default();
        changes(&listed).into_iter().for_each(|change| transaction.push(table, change));
        socket.apply(&transaction)
    };
    node.namespace.run(inside).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until an agent has seen a pod.
pub(crate) fn wait_until_known(agent: &Agent, pod: &Attached) {
    within(10.0, "the agent knows the pod", || {
        let attachments = agent.status().wanted.attachments.clone();
        let known = attachments.iter().any(|known| known.starts_with(&pod.host_end));
        if known { Ok(()) } else { Err(format!("{attachments:?}\n{}", agent.log())) }
    });
}

/// Deletes a node's routes to a destination.
pub(crate) fn delete_route(node: &Node, destination: &str) {
    let destination = destination.parse().unwrap();
    let routes = node.picture().routes.into_iter().filter(|route| route.destination == destination);
    let steps: Vec<NetStep> = routes.map(NetStep::DeleteRoute).collect();
    assert!(!steps.is_empty(), "a route leads to {destination}");
    RouteSocket::open_in(&node.namespace).unwrap().apply_until_failure(&steps, None).unwrap();
}

/// Has a command line carried out on a node.
pub(crate) fn on(node: &Node, line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = node.namespace.run(|| command.args(words).output()).unwrap().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// True if nobody but the agent can change its table, on this kernel: since Linux 6.9.
pub(crate) fn tables_are_owned(node: &Node) -> bool {
    node.namespace.run(|| NftSocket::open()?.features()).unwrap().unwrap().owned_tables
}

/// The name of a link.
pub(crate) fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn told(status: &Status) -> String {
    let told: &dyn Debug = &(&status.repaired, &status.repairs, &status.last_change);
    format!("{told:#?}")
}
