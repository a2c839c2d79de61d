//! What must be so after a call was disturbed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use ipnet::IpNet;
use selvedge_datapath::state::ObservedNetwork;
use selvedge_model::mark::REAP_GROUP;
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Answer, Call, Traces};
use serde_json::Value;

use crate::scene::{Mode, Scene};

/// What is wrong after a call was disturbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Something was left behind.
    Leak(String),
    /// Two pods have an address.
    DoubleOwner(String),
    /// What the plugin said is not so.
    Untruth(String),
}

/// The error code of an ADD that finds no free address.
const NO_ADDRESS: u64 = 101;

impl Scene {
    /// Makes a call that must succeed without a word.
    pub(crate) fn must_do(&self, call: &Call) -> Result<(), Harm> {
        let answer = call.run(self.node());
        if answer.code == 0 && answer.stdout.is_none() {
            return Ok(());
        }
        Err(Harm::Untruth(format!("an undisturbed call fails: {answer:?}")))
    }

    /// Fails if the node is not as it was, or a pod isn't but for its loopback, which ADD puts up for good.
    pub(crate) fn must_be_as_before(&self) -> Result<(), Harm> {
        let difference = self.difference();
        if !difference.is_empty() {
            return Err(Harm::Leak(difference));
        }
        let victim = self.victim.borrow();
        for (name, pod) in [("web-0", &*victim), ("web-1", &self.other)] {
            let now = Traces::in_pod(pod.namespace());
            let more = now.lines().filter(|line| !self.empty.has(line) && !is_loopbacks(line));
            let less = self.empty.lines().filter(|line| !now.has(line) && !is_loopbacks(line));
            let changes: Vec<_> = more.map(|line| ("+", line)).chain(less.map(|line| ("-", line))).collect();
            if !changes.is_empty() {
                return Err(Harm::Leak(format!("{name} is not as it was: {changes:?}")));
            }
        }
        Ok(())
    }

    /// Fails if `web-0` has an interface of the name that it was attached by.
    pub(crate) fn must_have_no_eth0(&self) -> Result<(), Harm> {
        let links = look_at(self.victim.borrow().namespace()).links;
        let link = links.iter().find(|(name, _)| name.as_str() == "eth0");
        link.map_or(Ok(()), |(_, link)| Err(Harm::Leak(format!("web-0 still has eth0: {link:?}"))))
    }

    /// Fails unless `web-1` is attached as its ADD answered.
    pub(crate) fn other_must_be_whole(&self) -> Result<(), Harm> {
        let answer = self.check_other();
        if answer.code == 0 { Ok(()) } else { Err(Harm::Untruth(format!("web-1 is harmed: {answer:?}"))) }
    }

    /// Fails if `web-1` has more than its `eth0` with its routes: another link, or rules of ours.
    pub(crate) fn other_must_have_eth0_alone(&self) -> Result<(), Harm> {
        self.other_must_be_whole()?;
        let now = Traces::in_pod(self.other.namespace());
        let further = |line: &&str| line.contains("eth1") || line.contains("slv");
        let rule = |line: &&str| line.starts_with("rule ") && line.contains("proto 83");
        let more: Vec<_> = now.lines().filter(|line| further(line) || rule(line)).collect();
        if more.is_empty() { Ok(()) } else { Err(Harm::Leak(format!("web-1 has more than eth0: {more:?}"))) }
    }

    /// Fails if the node is not as it was but for locks that nobody holds: whoever comes next takes them over.
    pub(crate) fn must_be_as_before_but_for_locks(&self) -> Result<(), Harm> {
        let difference = self.difference();
        if difference.lines().all(|line| line.starts_with("+ lock ")) {
            Ok(())
        } else {
            Err(Harm::Leak(difference))
        }
    }

    /// What is on the node now and was not, or was and is not.
    pub(crate) fn difference(&self) -> String {
        let look = || self.before.must_be_back_on(self.node(), &self.run_dir);
        let Err(panic) = catch_unwind(AssertUnwindSafe(look)) else { return String::new() };
        panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the node can't be looked at".to_owned())
    }

    /// Attaches `web-1`, which may find no address free. It must not get one that `web-0` has.
    pub(crate) fn nobody_gets_its_address(&self) -> Result<(), Harm> {
        let answer = self.call_of_other("ADD").run(self.node());
        if answer.code != 0 {
            let code = answer.stdout.as_ref().and_then(|document| document["code"].as_u64());
            let full = code == Some(NO_ADDRESS);
            return if full {
                Ok(())
            } else {
                Err(Harm::Untruth(format!("an undisturbed ADD fails: {answer:?}")))
            };
        }
        let addresses = addresses(&answer);
        let node = look_at(self.node());
        let mine =
            |text: &str| answer.result()["interfaces"].as_array().unwrap().iter().any(|i| i["name"] == text);
        // A link in the reap group owns nothing any more.
        let ends = node.links.iter().filter(|(name, link)| {
            name.as_str().starts_with("slv") && !mine(name.as_str()) && link.group != REAP_GROUP
        });
        let ends: Vec<_> = ends.map(|(name, link)| format!("{name} {}", link.alias)).collect();
        if ends.is_empty() {
            return Ok(());
        }
        let inside = look_at(self.victim.borrow().namespace());
        let had = inside.links.values().flat_map(|link| &link.addresses).map(|a| a.net.addr());
        let recorded = ends.iter().flat_map(|end| end.split([' ', ',', '/']));
        let all: BTreeSet<IpAddr> = had.chain(recorded.filter_map(|word| word.parse().ok())).collect();
        let twice: Vec<_> = all.intersection(&addresses).collect();
        if twice.is_empty() {
            Ok(())
        } else {
            Err(Harm::DoubleOwner(format!("{twice:?} of {ends:?} is given again")))
        }
    }
}

/// True for what a loopback has that is up.
fn is_loopbacks(line: &str) -> bool {
    let own = ["link lo ", "address 127.0.0.1/8 ", "address ::1/128 ", "route ::1/128 "];
    own.iter().any(|start| line.starts_with(start))
}

fn addresses(answer: &Answer) -> BTreeSet<IpAddr> {
    let ips = answer.result()["ips"].as_array().unwrap();
    let address = |ip: &Value| ip["address"].as_str().unwrap().parse::<IpNet>().unwrap().addr();
    ips.iter().map(address).collect()
}

fn look_at(namespace: &Namespace) -> ObservedNetwork {
    RouteSocket::open_in(namespace).unwrap().observe().unwrap()
}

#[test]
fn whatever_is_left_in_a_pod_is_a_leak() {
    let left = [
        "ip link add eth0 type veth peer eth1",
        "ip address add 10.244.1.2/32 dev lo",
        "ip -6 address add fd00:10:244:1::2/128 dev lo",
        "ip route add 10.9.0.0/16 dev lo",
        "ip -6 route add fd00:9::/64 dev lo",
        "ip rule add from 10.244.1.2 table 7 priority 83",
        "ip -6 rule add from fd00:10:244:1::2 table 7 priority 83",
        "ip route add default dev lo table 7",
    ];
    let Some(scene) = Scene::new(Mode::WideBridge) else { return };
    let typed = |command: &str| {
        let mut words = command.split_whitespace();
        let run = || Command::new(words.next().unwrap()).args(words).status();
        assert!(scene.victim.borrow().namespace().run(run).unwrap().unwrap().success(), "{command}");
    };
    for command in left {
        scene.replace_victim();
        typed("ip link set lo up");
        assert_eq!(scene.must_be_as_before(), Ok(()));
        typed(command);
        assert!(matches!(scene.must_be_as_before(), Err(Harm::Leak(_))), "not seen: {command}");
    }
}
