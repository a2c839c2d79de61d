//! What a pod network leaves on a node, to be compared before and after.

mod passing;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, ObservedNetwork};
use selvedge_lab::patience::patience;
use selvedge_leases::Store;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

/// How long the traces of a pod may outlive it: the links that DEL sets aside are deleted after it has answered, and under
/// load the kernel lets go of them one after another.
const REAPED_WITHIN: Duration = Duration::from_secs(10);

/// The links, addresses, routes of every table, routing rules, neighbours, firewall rules of every kind, queueing disciplines, filters, tracked
/// connections, leases and locks of a node, one line each.
///
/// What the kernel adds by itself and in its own time is left out: link-local addresses and their routes. So is what
/// stays on purpose: forwarding, and the addresses that rest.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Traces {
    lines: BTreeSet<String>,
}

impl fmt::Debug for Traces {
    /// One line each, as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl Traces {
    /// The traces on a node now; `run_dir` is where its plugin keeps the leases.
    ///
    /// # Panics
    /// If the kernel or the leases cannot be read.
    pub fn on(node: &Namespace, run_dir: &Path) -> Self {
        let observed = RouteSocket::open_in(node).and_then(|mut socket| socket.observe());
        let observed = observed.unwrap_or_else(|error| panic!("observe a node: {error:?}"));
        let mut lines = BTreeSet::new();
        lines.extend(of_network(&observed));
        let shown = passing::Shown::of(node);
        lines.extend(shown.routing());
        lines.extend(shown.neighbours(&observed));
        lines.extend(of_rules(node));
        lines.extend(of_older_rules(node));
        lines.extend(passing::queueing(node));
        lines.extend(passing::connections(node));
        lines.extend(of_leases(run_dir));
        Self { lines }
    }

    /// The traces of one pod's namespace, which has no leases and no firewall rules of ours.
    ///
    /// # Panics
    /// If the kernel cannot be asked.
    pub fn in_pod(pod: &Namespace) -> Self {
        let observed = RouteSocket::open_in(pod).and_then(|mut socket| socket.observe());
        let observed = observed.unwrap_or_else(|error| panic!("observe a pod: {error:?}"));
        Self { lines: of_network(&observed).chain(passing::Shown::of(pod).routing()).collect() }
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// True if it is one of them.
    pub fn has(&self, line: &str) -> bool {
        self.lines.contains(line)
    }

    /// The lines with a word in them.
    pub fn with(&self, word: &str) -> Vec<&str> {
        self.lines().filter(|line| line.contains(word)).collect()
    }

    /// Fails unless the node has these traces again, at once or as soon as what was set aside has been reaped.
    ///
    /// # Panics
    /// If it has not.
    pub fn must_be_back_on(&self, node: &Namespace, run_dir: &Path) {
        let until = Instant::now() + patience(REAPED_WITHIN);
        loop {
            let now = Self::on(node, run_dir);
            if now == *self {
                return;
            }
            assert!(Instant::now() < until, "{}", self.difference(&now));
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn difference(&self, now: &Self) -> String {
        let more = now.lines.difference(&self.lines).map(|line| format!("+ {line}"));
        let less = self.lines.difference(&now.lines).map(|line| format!("- {line}"));
        more.chain(less).collect::<Vec<_>>().join("\n")
    }
}

fn of_network(observed: &ObservedNetwork) -> impl Iterator<Item = String> {
    let links = observed.links.iter().map(|(name, link)| {
        let (kind, master, alias) = (link.kind, &link.master, &link.alias);
        format!("link {name} {kind:?} up {} mtu {} master {master:?} alias {alias:?}", link.up, link.mtu)
    });
    let addresses = observed.links.iter().flat_map(|(name, link)| {
        let lasting = link.addresses.iter().filter(|address| !by_the_kernel(address));
        lasting.map(move |address| format!("address {address} on {name}"))
    });
    let lasting = observed.routes.iter().filter(|route| !is_link_local(&route.destination));
    let routes = lasting.map(|route| format!("route {route}"));
    links.chain(addresses).chain(routes)
}

/// The kernel's own link-local addresses are made of the hardware address; ours end in 1.
pub(crate) fn by_the_kernel(address: &Address) -> bool {
    let ours = IpAddr::from(selvedge_datapath::attachment::ROUTED_GATEWAY6);
    is_link_local(&address.net) && address.net.addr() != ours
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// Every rule, chain and set element, behind the table and the chain or set that it is in.
fn of_rules(node: &Namespace) -> Vec<String> {
    let nft = answers(node, &["nft", "--stateless", "list", "ruleset"], "");
    let mut place = Vec::new();
    let mut lines = Vec::new();
    for line in nft.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(opened) = line.strip_suffix('{').filter(|line| !line.contains('=')) {
            place.push(opened.trim().to_owned());
            lines.push(format!("nft {}", place.join(" ")));
        } else if line == "}" {
            place.pop();
        } else {
            let in_set = place.last().is_some_and(|place| place.starts_with("set "));
            let elements = line.trim_start_matches("elements = {").trim_end_matches('}');
            let parts = if in_set { elements.split(',').collect() } else { vec![line] };
            let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
            lines.extend(parts.map(|part| format!("nft {} {part}", place.join(" "))));
        }
    }
    lines
}

/// Every rule of iptables, where the kernel has a table of it.
fn of_older_rules(node: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    for (program, tables) in
        [("iptables-legacy-save", "ip_tables_names"), ("ip6tables-legacy-save", "ip6_tables_names")]
    {
        let tables = node.run(|| fs::read(format!("/proc/thread-self/net/{tables}")));
        if tables.unwrap_or_else(|error| panic!("{error}")).is_ok_and(|tables| !tables.is_empty()) {
            let saved = answers(node, &[program], "");
            let rules = saved.lines().filter(|line| line.starts_with("-A") || line.starts_with('*'));
            lines.extend(rules.map(|line| format!("{program} {line}")));
        }
    }
    lines
}

/// What a program prints in a namespace that is asked this; nothing where it is not installed.
fn answers(place: &Namespace, words: &[&str], questions: &str) -> String {
    let ask = || {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut asked = command.spawn()?;
        // Whoever doesn't listen has answered all the same.
        drop(asked.stdin.take().map(|mut stdin| stdin.write_all(questions.as_bytes())));
        asked.wait_with_output()
    };
    let output = place.run(ask).unwrap_or_else(|error| panic!("{error}"));
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn of_leases(run_dir: &Path) -> Vec<String> {
    let networks = Store::networks(run_dir).unwrap_or_else(|error| panic!("{error}"));
    let mut lines = Vec::new();
    for network in networks {
        let leases = Store::new(run_dir, &network).read().unwrap_or_else(|error| panic!("{error}"));
        let lease = |(key, lease): (_, &selvedge_ipam::Lease)| {
            format!("lease {network} {key} {:?} {}", lease.addresses, lease.veth)
        };
        lines.extend(leases.leases().iter().map(lease));
        let locks = fs::read_dir(run_dir.join("ipam").join(network.as_str()).join("att"));
        lines
            .extend(locks.into_iter().flatten().flatten().map(|lock| format!("lock {:?}", lock.file_name())));
    }
    lines
}
