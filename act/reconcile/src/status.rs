//! What the loop says of itself: plain data, the same for the socket, the metrics and the screen.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_datapath::converge::Observed;
use selvedge_datapath::state::ObservedLink;
use selvedge_model::mark;
use serde::{Deserialize, Serialize};

use crate::deferred::Deferred;

/// How many steps of a pass are told though they succeeded.
pub(crate) const TOLD: usize = 256;

/// How many repairs are remembered one by one; the counters remember all.
const REMEMBERED: usize = 20;

/// How the node is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum State {
    /// Nothing can be decided yet. -> `Ready` or `Degraded` with the first pass that decides.
    Waiting {
        /// What is missing.
        reason: String,
    },
    /// Everything is as it should be. -> `Degraded` when something fails.
    Ready,
    /// Pods are served, but something is amiss. -> `Ready` once nothing is.
    Degraded {
        /// What is amiss.
        reasons: Vec<String>,
    },
    /// The node can't serve pods: a step that they need failed. -> `Ready` or `Degraded` once it succeeds.
    Failed {
        /// What failed.
        reasons: Vec<String>,
    },
}

impl State {
    /// True if pods are served.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }
}

/// One step of a pass and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// The step, as an operator would type it.
    pub step: String,
    /// What kind of object it was about.
    pub object: String,
    /// How it ended.
    pub result: StepResult,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepResult {
    /// As planned.
    Done,
    /// Not: the kernel's reason.
    Failed(String),
    /// Not tried, since another step failed.
    Skipped,
}

/// A pass of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pass {
    /// Why it was made.
    pub because: Vec<String>,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its steps; of many that succeeded, some.
    pub steps: Vec<StepOutcome>,
    /// How many others succeeded.
    #[serde(default)]
    pub others: usize,
}

/// A change by somebody else that the loop undid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The step that undid it.
    pub step: String,
}

/// What is wanted, in numbers and names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// The node's pod CIDRs.
    pub pod_cidrs: Vec<String>,
    /// The node's own addresses.
    pub addresses: Vec<String>,
    /// How pods are attached.
    pub attach: String,
    /// The pods' MTU in bytes.
    pub mtu: u32,
    /// The peers' routes, as `ip route` prints them.
    pub routes: Vec<String>,
    /// How the other nodes are reached.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// The pods attached here: host end and addresses.
    pub attachments: Vec<String>,
    /// The nftables tables.
    pub tables: Vec<String>,
}

/// How another node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its name.
    pub node: String,
    /// By what: `direct`, `native`, `vxlan`, `udp` or `wireguard`.
    pub transport: String,
    /// The better transport that it would be, if that got through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    /// What a packet to its pods may measure, in bytes.
    pub path_mtu: u32,
    /// What was measured of that.
    pub measured: Found,
}

/// What was measured of the way to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Found {
    /// Nothing yet.
    Unmeasured,
    /// Packets get there and back, as long as the path MTU says.
    Ok,
    /// Nothing comes back.
    Silent,
}

impl fmt::Display for PeerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, path MTU {}, ", self.node, self.transport, self.path_mtu)?;
        f.write_str(match self.measured {
            Found::Unmeasured => "not measured",
            Found::Ok => "ok",
            Found::Silent => "nothing comes back",
        })?;
        match &self.instead_of {
            Some(better) => write!(f, " ({better} doesn't get through)"),
            None => Ok(()),
        }
    }
}

/// What bears our mark on the node, as the last pass found it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct There {
    /// The routes, as `ip route` prints them.
    pub routes: Vec<String>,
    /// The links and whose they are.
    pub links: Vec<String>,
    /// The nftables tables.
    pub tables: Vec<String>,
    /// Other people's forward chains with rules of ours.
    pub forward_chains: Vec<String>,
    /// Whether the conflist is there.
    pub conflist: bool,
}

impl There {
    pub(crate) fn of(observed: &Observed) -> Deferred<Self> {
        let ours = |link: &ObservedLink| mark::is_ours(&link.alias);
        let links = observed.network.links.iter().filter(|(_, link)| ours(link));
        let chains = observed.forward.iter().filter(|chain| !chain.ours.is_empty());
        let all_but_routes = Self {
            routes: Vec::new(),
            links: links.map(|(name, link)| format!("{name} {}", link.alias)).collect(),
            tables: observed.tables.keys().map(ToString::to_string).collect(),
            forward_chains: chains.map(|chain| chain.place.to_string()).collect(),
            conflist: observed.conflist.is_some(),
        };
        let routes = observed.network.routes.clone();
        Deferred::until_asked(move || {
            let ours = routes.iter().filter(|route| route.protocol.0 == mark::ROUTE_PROTOCOL);
            Self { routes: ours.map(ToString::to_string).collect(), ..all_but_routes.clone() }
        })
    }
}

/// Everything the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// How the node is doing.
    #[serde(flatten)]
    pub state: State,
    /// What is wanted.
    pub wanted: Deferred<Wanted>,
    /// What is there.
    #[serde(default)]
    pub there: Deferred<There>,
    /// The last pass that changed something or failed.
    pub last_change: Option<Pass>,
    /// The last pass.
    pub last_pass: Option<Pass>,
    /// Passes so far.
    pub passes: u64,
    /// Repairs so far, by kind of object.
    pub repaired: BTreeMap<String, u64>,
    /// The latest repairs, the newest last.
    pub repairs: VecDeque<Repair>,
    /// What is worth knowing of the node and keeps nothing from working.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What is wrong with what the cluster's state comes from.
    pub source_problems: Vec<String>,
    /// Attachments whose addresses no Pod of this node has, as the API tells of them: something that was left, or a pod that
    /// has just come. One sign among others; nothing is done on account of it alone.
    #[serde(default)]
    pub without_pod: Vec<String>,
    /// Why the cluster can't be told that this node serves pods.
    #[serde(default)]
    pub standing_problem: Option<String>,
    /// Since when the cluster may have changed without our hearing of it, in milliseconds since 1970; its state of then
    /// is in force.
    #[serde(default)]
    pub source_lost_ms: Option<u64>,
    /// Leases freed because the kernel shows that their pods are gone.
    pub leases_freed: u64,
}

impl Status {
    /// The status before the first pass.
    pub fn starting(node: &str, version: &str) -> Self {
        Self {
            node: node.to_owned(),
            version: version.to_owned(),
            state: State::Waiting { reason: "the first pass hasn't ended yet".to_owned() },
            wanted: Deferred::default(),
            there: Deferred::default(),
            last_change: None,
            last_pass: None,
            passes: 0,
            repaired: BTreeMap::new(),
            repairs: VecDeque::new(),
            notes: Vec::new(),
            source_problems: Vec::new(),
            without_pod: Vec::new(),
            standing_problem: None,
            source_lost_ms: None,
            leases_freed: 0,
        }
    }

    /// How old the cluster's state is that is in force; nothing if its source is heard.
    pub fn source_age(&self) -> Duration {
        self.source_lost_ms
            .map_or(Duration::ZERO, |lost| Duration::from_millis(now_ms().saturating_sub(lost)))
    }

    /// Enters a pass, its steps counted as repairs where `drift` says that nothing but the kernel had changed.
    pub(crate) fn enter(&mut self, mut pass: Pass, drift: bool) {
        self.passes += 1;
        let done = pass.steps.iter().filter(|step| drift && step.result == StepResult::Done);
        for step in done {
            *self.repaired.entry(step.object.clone()).or_default() += 1;
            self.repairs.push_back(Repair { at_ms: pass.at_ms, step: step.step.clone() });
        }
        while self.repairs.len() > REMEMBERED {
            self.repairs.pop_front();
        }
        let all = pass.steps.len();
        let mut place = 0..;
        pass.steps.retain(|step| place.next().is_some_and(|at| at < TOLD) || step.result != StepResult::Done);
        pass.steps.shrink_to_fit();
        pass.others = all - pass.steps.len();
        if !pass.steps.is_empty() {
            self.last_change = Some(pass.clone());
        }
        self.last_pass = Some(pass);
    }
}

/// The wall clock, for people to read; nothing is decided by it.
pub(crate) fn now_ms() -> u64 {
    since_1970_ms(SystemTime::now())
}

/// A moment in milliseconds since 1970.
pub fn since_1970_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
