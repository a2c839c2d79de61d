//! What programs of the system are asked for: which table decides, neighbours that were learned, queues that packets wait
//! in, connections that are tracked.

use std::fs;

use selvedge_datapath::state::{LinkKind, ObservedNetwork};
use selvedge_model::mark;
use selvedge_netns::Namespace;

use super::answers;

/// What is asked of each family. It is one process that answers: to start it takes longer than all of its answers.
const QUESTIONS: &str = "rule show\nroute show table all\nneighbour show\nneighbour show proxy\n";

/// What `ip` shows of a namespace.
pub(super) struct Shown {
    families: [(&'static str, String); 2],
}

impl Shown {
    pub(super) fn of(place: &Namespace) -> Self {
        // Where a kernel has no answer to one of them, the others are asked nonetheless.
        let ask = |family| (family, answers(place, &["ip", family, "-force", "-batch", "-"], QUESTIONS));
        Self { families: ["-4", "-6"].map(ask) }
    }

    fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.families.iter().flat_map(|(family, text)| text.lines().map(move |line| (*family, line.trim())))
    }

    /// Each routing rule, and each route of a table beside the main one and the kernel's own, of both families.
    pub(super) fn routing(&self) -> impl Iterator<Item = String> {
        let line = |(family, line): (&str, &str)| {
            if is_rule(line) {
                Some(format!("rule {family} {}", line.replace('\t', " ")))
            } else if line.contains(" table ") && !line.contains(" table local") {
                Some(format!("route {family} {line}"))
            } else {
                None
            }
        };
        self.lines().filter_map(line)
    }

    /// Each neighbour with a hardware address, whatever the kernel thinks of it at the moment: those that somebody set,
    /// and those that were learned on a link of the pod network. What a machine learns of its segment is its own affair.
    pub(super) fn neighbours(&self, observed: &ObservedNetwork) -> impl Iterator<Item = String> {
        let of_pods = |device: &str| {
            let link = observed.links.iter().find(|(name, _)| name.as_str() == device).map(|(_, link)| link);
            link.is_some_and(|link| link.kind == LinkKind::Bridge || mark::is_ours(&link.alias))
        };
        let line = move |(_, line): (&str, &str)| {
            if line.ends_with(" proxy") {
                return Some(format!("neighbour {line}"));
            }
            let (neighbour, state) = line.split_once(" lladdr ")?;
            let (_, device) = neighbour.split_once(" dev ")?;
            (state.contains("PERMANENT") || of_pods(device)).then(|| format!("neighbour {neighbour}"))
        };
        self.lines().filter_map(line)
    }
}

/// Rules are shown behind their priorities: `32766:`.
fn is_rule(line: &str) -> bool {
    line.split_once(":\t").is_some_and(|(priority, _)| priority.parse::<u32>().is_ok())
}

/// Each queueing discipline that somebody chose, and each filter. The kernel gives every link one, named `0:`.
pub(super) fn queueing(node: &Namespace) -> Vec<String> {
    let disciplines = answers(node, &["tc", "qdisc", "show"], "");
    let chosen: Vec<&str> = disciplines.lines().filter(|line| !line.contains(" 0: ")).collect();
    let mut lines: Vec<String> = chosen.iter().map(|line| format!("tc {line}")).collect();
    for device in chosen.iter().filter_map(|line| line.split_whitespace().skip_while(|w| *w != "dev").nth(1))
    {
        for parent in ["root", "ingress"] {
            let filters = answers(node, &["tc", "filter", "show", "dev", device, parent], "");
            lines.extend(filters.lines().map(|line| format!("tc {device} {parent} {}", line.trim())));
        }
    }
    lines
}

/// The ports at which agents measure the ways between nodes, as pods' packets take them: what they ask each other is no
/// pod's, and tracked for a while after they end.
const BETWEEN_NODES: [&str; 3] = ["dport=9764", "dport=4789", "dport=8383"];

/// Each tracked connection but those between agents: its protocol, its ends as they were sent and as the answer comes.
pub(super) fn connections(node: &Namespace) -> Vec<String> {
    let shown = node.run(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
    let shown = shown.unwrap_or_else(|error| panic!("{error}")).unwrap_or_default();
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.iter().any(|word| BETWEEN_NODES.contains(word)) {
            return None;
        }
        let ends = words
            .iter()
            .filter(|word| ["src=", "dst=", "sport=", "dport="].iter().any(|k| word.starts_with(k)));
        let protocol = words.get(2).copied().unwrap_or_default();
        Some(format!("connection {protocol} {}", ends.copied().collect::<Vec<_>>().join(" ")))
    };
    shown.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use crate::{Stage, Traces};

    /// Does as a person on the node would.
    fn typed(stage: &Stage, command: &str) {
        let mut words = command.split_whitespace();
        let done = stage.node().run(|| Command::new(words.next().unwrap()).args(words).status()).unwrap();
        assert!(done.unwrap().success(), "{command}");
    }

    fn seen(stage: &Stage, word: &str) -> usize {
        Traces::on(stage.node(), stage.folder()).with(word).len()
    }

    #[test]
    fn a_neighbour_that_somebody_set_is_seen() {
        let Some(stage) = Stage::new() else { return };
        typed(&stage, "ip link set lo up");
        typed(&stage, "ip link add eth0 type veth peer eth1");
        typed(&stage, "ip neighbour add 10.0.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent");
        assert_eq!(seen(&stage, "neighbour 10.0.0.7 dev eth0"), 1);
        typed(&stage, "ip neighbour add fd00::7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent");
        assert_eq!(seen(&stage, "neighbour fd00::7 dev eth0"), 1);
    }

    #[test]
    fn an_address_that_is_answered_for_is_seen() {
        let Some(stage) = Stage::new() else { return };
        typed(&stage, "ip link add eth0 type veth peer eth1");
        assert_eq!(seen(&stage, "neighbour "), 0);
        for address in ["10.0.0.8", "fd00::8"] {
            typed(&stage, &format!("ip neighbour add proxy {address} dev eth1"));
            assert_eq!(seen(&stage, &format!("neighbour {address} dev eth1")), 1);
        }
    }

    #[test]
    fn a_rule_of_older_iptables_is_seen() {
        let Some(stage) = Stage::new() else { return };
        assert_eq!(seen(&stage, "legacy"), 0);
        typed(&stage, "iptables-legacy -A INPUT -s 10.0.0.7 -j DROP");
        typed(&stage, "ip6tables-legacy -A INPUT -s fd00::7 -j DROP");
        assert_eq!(seen(&stage, "iptables-legacy-save -A INPUT -s 10.0.0.7/32"), 1);
        assert_eq!(seen(&stage, "ip6tables-legacy-save -A INPUT -s fd00::7/128"), 1);
    }

    #[test]
    fn a_limit_on_a_link_is_seen_and_what_the_kernel_gives_every_link_is_not() {
        let Some(stage) = Stage::new() else { return };
        typed(&stage, "ip link set lo up");
        assert_eq!(seen(&stage, "tc "), 0);
        typed(&stage, "tc qdisc add dev lo root tbf rate 10mbit burst 10kb latency 10ms");
        assert_eq!(seen(&stage, "tc qdisc tbf"), 1);
        typed(&stage, "tc qdisc add dev lo ingress");
        typed(&stage, "tc filter add dev lo ingress u32 match u32 0 0 action mirred egress redirect dev lo");
        assert!(seen(&stage, "tc lo ingress filter") > 0);
    }

    #[test]
    fn a_routing_rule_and_a_route_of_another_table_are_seen_on_a_node_and_in_a_pod() {
        let Some(stage) = Stage::new() else { return };
        typed(&stage, "ip link set lo up");
        let in_pod = |word: &str| Traces::in_pod(stage.node()).with(word).len();
        for (family, net) in [("-4", "10.0.0.7/32"), ("-6", "fd00::7/128")] {
            let address = net.split('/').next().unwrap();
            let (rule, route) = (format!("from {address} lookup 7"), format!("{address} dev lo table 7"));
            assert_eq!((seen(&stage, &rule), seen(&stage, &route)), (0, 0));
            typed(&stage, &format!("ip {family} rule add from {net} table 7"));
            typed(&stage, &format!("ip {family} route add {net} dev lo table 7"));
            assert_eq!((seen(&stage, &rule), seen(&stage, &route)), (1, 1));
            assert_eq!((in_pod(&rule), in_pod(&route)), (1, 1));
        }
    }

    #[test]
    fn a_tracked_connection_is_seen() {
        let Some(stage) = Stage::new() else { return };
        typed(&stage, "ip link set lo up");
        typed(&stage, "nft add table inet t");
        typed(&stage, "nft add chain inet t c { type filter hook output priority 0 ; }");
        typed(&stage, "nft add rule inet t c ct state new accept");
        let send = || UdpSocket::bind("127.0.0.1:0")?.send_to(b"?", "127.0.0.1:9");
        stage.node().run(send).unwrap().unwrap();
        assert_eq!(seen(&stage, "connection udp src=127.0.0.1 dst=127.0.0.1"), 1);
    }
}
