//! With real flows through a real kernel.

use std::net::SocketAddr;
use std::time::Instant;

use selvedge_nft::Conntrack;

use super::net::{HOST_PORT, NODE, NODE_PORT, Net};
use super::talk::{Talk, Talks};
use super::*;

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// db admits TCP/80, and the client to what the host port leads to.
fn policies() -> Vec<(&'static str, Value)> {
    let client = json!([{"ipBlock": {"cidr": "192.0.2.9/32"}}]);
    admits(json!([{"ports": [{"port": 80}]}, {"from": client, "ports": [{"port": HOST_PORT}]}]))
}

/// Flows that those policies deny.
fn denied(net: &Net) -> Vec<Talk> {
    let (web6, db6) = (PODS[0].2[1], PODS[1].2[1]);
    vec![
        Talk::tcp("TCP, the server talks", (&net.web, None), (&net.db, 81, at(DB, 81)), Talks::Server),
        Talk::tcp("TCP, IPv6", (&net.web, None), (&net.db, 82, at(db6, 82)), Talks::Both),
        Talk::udp("UDP both ways", [(&net.web, at(WEB, 5000)), (&net.db, at(DB, 5000))]),
        Talk::udp("UDP both ways, IPv6", [(&net.web, at(web6, 5001)), (&net.db, at(db6, 5001))]),
        Talk::tcp("NodePort", (&net.client, None), (&net.db, 8080, at(NODE, NODE_PORT)), Talks::Both),
    ]
}

/// Flows that they allow.
fn allowed(net: &Net) -> Vec<Talk> {
    vec![
        Talk::tcp("admitted", (&net.web, None), (&net.db, 80, at(DB, 80)), Talks::Server),
        Talk::tcp("hostPort", (&net.client, None), (&net.db, HOST_PORT, at(NODE, HOST_PORT)), Talks::Both),
        Talk::tcp("opened by db", (&net.db, None), (&net.web, 83, at(WEB, 83)), Talks::Both),
        Talk::tcp("nobody is isolated", (&net.web, None), (&net.client, 84, at(CLIENT, 84)), Talks::Both),
        Talk::udp("UDP, opened by db", [(&net.db, at(DB, 5002)), (&net.web, at(WEB, 5002))]),
    ]
}

/// The numbers of the entries of those flows.
fn entries(talks: &[Talk]) -> BTreeSet<u32> {
    let is_one = |flow: &Tracked| {
        let port = flow.reply.ports().map(|(port, _)| port);
        talks.iter().any(|talk| Some(talk.to) == port.map(|port| (flow.protocol, port)))
    };
    Conntrack::open().unwrap().flows(is_one).unwrap().iter().map(|flow| flow.id).collect()
}

fn ready(agent: &Reconciler<impl Kernel, Decide>) {
    assert_eq!(agent.status().state, State::Ready, "{:?}", agent.status().last_pass);
}

/// Denied flows are cut, the others go on: at a change, and where the flows are older than the table.
fn denied_flows_are_cut_and_no_others(older: bool) {
    let Some(net) = Net::new() else { return };
    let inside = || {
        net.publish();
        let mut agent = net.agent();
        if !older {
            agent.pass(vec![cluster(&[])]);
            ready(&agent);
        }
        let (denied, allowed) = (denied(&net), allowed(&net));
        let ids = entries(&allowed);
        assert_eq!((ids.len(), entries(&denied).len()), (allowed.len(), denied.len()));
        let since = Instant::now();
        agent.pass(vec![cluster(&policies())]);
        println!("the pass took {:?}", since.elapsed());
        ready(&agent);
        denied.iter().for_each(|talk| talk.is_cut(since));
        allowed.iter().for_each(Talk::goes_on);
        assert_eq!(entries(&denied), BTreeSet::new(), "and they are not taken up again");
        assert_eq!(entries(&allowed), ids);
        // The same again, by the same agent and by its successor: nothing is cut, and nothing comes back.
        agent.pass(vec![Trigger::Resync]);
        drop(agent);
        let mut agent = net.agent();
        agent.pass(vec![Trigger::Start, cluster(&policies())]);
        ready(&agent);
        let steps = agent.status().last_pass.clone().unwrap().steps;
        assert!(steps.is_empty(), "{steps:?}");
        allowed.iter().for_each(Talk::goes_on);
        assert_eq!(entries(&allowed), ids);
        denied.iter().for_each(|talk| talk.is_cut(since));
        assert_eq!(entries(&denied), BTreeSet::new());
    };
    net.node.run(inside).unwrap();
}

#[test]
fn flows_that_a_change_denies_are_cut_both_ways_and_no_others() {
    denied_flows_are_cut_and_no_others(false);
}

#[test]
fn flows_older_than_the_table_are_cut_only_if_they_are_denied() {
    denied_flows_are_cut_and_no_others(true);
}

/// Nothing was tracked before there was a table.
#[test]
fn a_flow_that_was_never_tracked_goes_on_where_nobody_is_isolated() {
    let Some(net) = Net::new() else { return };
    let inside = || {
        let mut agent = net.agent();
        let free = [
            Talk::tcp("older", (&net.web, None), (&net.client, 84, at(CLIENT, 84)), Talks::Server),
            Talk::udp("UDP, older", [(&net.web, at(WEB, 5000)), (&net.client, at(CLIENT, 5000))]),
        ];
        assert_eq!(Conntrack::open().unwrap().flows(|_| true).unwrap(), []);
        agent.pass(vec![cluster(&policies())]);
        ready(&agent);
        free.iter().for_each(Talk::goes_on);
        assert_eq!(Conntrack::open().unwrap().flows(|_| true).unwrap().len(), 2, "as new ones");
    };
    net.node.run(inside).unwrap();
}

/// With the same addresses and ports as what was cut, while one end still talks on the old one.
#[test]
fn what_is_allowed_again_can_be_opened_at_once() {
    let Some(net) = Net::new() else { return };
    let inside = || {
        net.publish();
        let mut agent = net.agent();
        agent.pass(vec![cluster(&[])]);
        let call = |what| {
            let from = (&net.web, Some(at(WEB, 4000)));
            Talk::tcp(what, from, (&net.db, 81, at(DB, 81)), Talks::Server)
        };
        let stays = [Talk::udp("UDP", [(&net.web, at(WEB, 5000)), (&net.db, at(DB, 5000))])];
        let denied = [call("TCP"), Talk::udp("UDP", [(&net.web, at(WEB, 5001)), (&net.db, at(DB, 5001))])];
        let since = Instant::now();
        agent.pass(vec![cluster(&policies())]);
        stays.iter().chain(&denied).for_each(|talk| talk.is_cut(since));
        let [tcp, udp] = denied;
        drop(tcp);
        // db is isolated as before, and admits more.
        let mut wider = policies();
        let ports = json!([{"port": 81}, {"protocol": "UDP", "port": 5001}]);
        wider[0].1["ingress"][0]["ports"] = ports;
        agent.pass(vec![cluster(&wider)]);
        ready(&agent);
        udp.goes_on();
        let again = call("TCP, again");
        again.goes_on();
        stays[0].is_cut(since);
        // And back: what was opened meanwhile is cut like any other. The datagrams may have been opened by db, which it
        // may.
        let since = Instant::now();
        agent.pass(vec![cluster(&policies())]);
        ready(&agent);
        again.is_cut(since);
        agent.pass(vec![cluster(&[])]);
        ready(&agent);
        stays[0].goes_on();
        udp.goes_on();
    };
    net.node.run(inside).unwrap();
}
