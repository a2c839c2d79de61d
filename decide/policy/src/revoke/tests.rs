use selvedge_model::tracked::{Detail, Tuple};
use selvedge_ruleset::after::after;
use selvedge_ruleset::matching::{CtStates, TcpFlags};
use selvedge_ruleset::{Command, Hook, Packet, Policy, Table, Transaction, trace};
use serde_json::{Value, json};

use super::*;
use crate::compile::compile;
use crate::compile::tests::{ID, listed, node_1, small};
use crate::local::{LocalPod, Whose};
use crate::testing::attached;

const WEB: &str = "10.244.1.2";
const DB: &str = "10.244.1.3";
const CLIENT: &str = "192.0.2.9";
const NODE: &str = "172.30.0.1";
const TCP: u8 = 6;
const GRE: u8 = 47;

/// Isolates db for what it receives; pods called web of its namespace may open TCP/80 there.
fn only_web() -> Vec<(&'static str, Value)> {
    let web = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
    let ingress = json!([{"from": web, "ports": [{"port": 80}]}]);
    vec![("x/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": ingress}))]
}

/// The first node with these policies: its table as listed, and who judges there.
fn node(policies: &[(&str, Value)]) -> (Listed, Revoker) {
    let cluster = small(policies);
    let pods = attached(&cluster, &node_1());
    let table = compile(&cluster, &pods);
    let own = [NODE, "169.254.1.1", "fd00:30::1"].map(|text| text.parse().unwrap());
    (listed(&table), Revoker::new(cluster, &pods, own))
}

fn tuple(from: (&str, u16), to: (&str, u16)) -> Tuple {
    let detail = Detail::Ports { source: from.1, destination: to.1 };
    Tuple { source: from.0.parse().unwrap(), destination: to.0.parse().unwrap(), detail }
}

/// A flow from and to as its opener sees it, whose answers come from and go to somewhere else.
fn rewritten(
    protocol: u8,
    original: ((&str, u16), (&str, u16)),
    reply: ((&str, u16), (&str, u16)),
) -> Tracked {
    let (original, reply) = (tuple(original.0, original.1), tuple(reply.0, reply.1));
    Tracked { protocol, original, reply, zone: 0, id: 1 }
}

fn flow(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Tracked {
    rewritten(protocol, (from, to), (to, from))
}

fn changed(listed: &Listed, changes: &[Change]) -> Listed {
    let command = |change: &Change| Command { table: ID, change: change.clone() };
    after(listed, &changes.iter().map(command).collect::<Transaction>()).unwrap()
}

fn elements(listed: &Listed) -> Vec<String> {
    let all = Revoked::ALL.into_iter().flat_map(|which| present(listed, &ID, which));
    all.map(|(parts, _)| parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")).collect()
}

/// Whether an established packet passes.
fn passes(listed: &Listed, protocol: u8, from: (&str, u16), to: (&str, u16)) -> bool {
    let table: Table = listed[&ID].known();
    let packet = Packet {
        iif: Some("slv1".parse().unwrap()),
        oif: Some("slv2".parse().unwrap()),
        source: from.0.parse().unwrap(),
        destination: to.0.parse().unwrap(),
        proto: L4Proto(protocol),
        ports: Some((from.1, to.1)),
        icmp: None,
        tcp: Some(TcpFlags::ACK),
        state: CtStates::ESTABLISHED,
    };
    trace(&table, Hook::Forward, &packet).unwrap().verdict == Policy::Accept
}

/// Each flow with whether it is cut, and what its packets look like where they are forwarded.
#[test]
fn flows_are_judged_where_they_really_go_and_cut_both_ways() {
    let (listed, revoker) = node(&only_web());
    let (service, node_port) = (("10.96.0.10", 80), (NODE, 30_080));
    let cases = [
        ("a port that is admitted", false, flow(TCP, (WEB, 4000), (DB, 80))),
        ("another port", true, flow(TCP, (WEB, 4001), (DB, 81))),
        ("UDP", true, flow(17, (WEB, 4002), (DB, 80))),
        ("SCTP, IPv6", true, flow(132, ("fd00:244:1::2", 4003), ("fd00:244:1::3", 80))),
        ("DCCP, which no policy names", true, flow(33, (WEB, 4003), (DB, 80))),
        ("a Service", false, rewritten(TCP, ((WEB, 4004), service), ((DB, 80), (WEB, 4004)))),
        ("its other port", true, rewritten(TCP, ((WEB, 4005), service), ((DB, 8080), (WEB, 4005)))),
        ("a NodePort", true, rewritten(TCP, ((CLIENT, 4006), node_port), ((DB, 80), (NODE, 61_000)))),
        ("a NodePort to web", false, rewritten(TCP, ((CLIENT, 1), node_port), ((WEB, 80), (NODE, 61_001)))),
        ("a hostPort", true, rewritten(TCP, ((CLIENT, 4007), (NODE, 80)), ((DB, 80), (CLIENT, 4007)))),
        ("another node's NodePort", true, flow(TCP, ("172.30.0.2", 4008), (DB, 80))),
        (
            "what it opens itself, masqueraded",
            false,
            rewritten(TCP, ((DB, 4009), (CLIENT, 443)), ((CLIENT, 443), (NODE, 61_002))),
        ),
        ("itself, by its Service", false, rewritten(TCP, ((DB, 4010), service), ((DB, 81), (NODE, 61_003)))),
        ("its own node", false, flow(TCP, (NODE, 4011), (DB, 81))),
        ("towards its own node", false, flow(TCP, (DB, 4012), ("169.254.1.1", 53))),
        ("a pod of another node", false, flow(TCP, (CLIENT, 4013), ("10.244.2.2", 81))),
    ];
    let cut = revoker.cut(cases.iter().map(|(_, _, flow)| *flow), &listed, &ID);
    assert_eq!(cut.beyond, 0);
    let after = changed(&listed, &cut.changes);
    for (what, is_cut, flow) in cases {
        assert_eq!(cut.flows.contains(&flow), is_cut, "{what}");
        let forth = (flow.original.source.to_string(), flow.original.ports().unwrap().0);
        let back = (flow.reply.source.to_string(), flow.reply.ports().unwrap().0);
        let (forth, back) = ((&forth.0[..], forth.1), (&back.0[..], back.1));
        assert_eq!(!passes(&after, flow.protocol, forth, back), is_cut, "{what}: forth");
        assert_eq!(!passes(&after, flow.protocol, back, forth), is_cut, "{what}: back");
    }
    assert_eq!(elements(&after).len(), 2 * cut.flows.len(), "two for each");
    // Once they are in, nothing changes by judging the same again.
    let again = revoker.cut(cut.flows.iter().copied(), &after, &ID);
    assert_eq!(changed(&after, &again.changes), after);
    assert_eq!(revoker.released(&after, &ID), []);
}

#[test]
fn protocols_without_ports_are_cut_by_their_addresses_and_pings_by_their_entry_alone() {
    let (listed, revoker) = node(&only_web());
    let nothing = Detail::Nothing;
    let bare = |tuple: Tuple| Tuple { detail: nothing, ..tuple };
    let gre = flow(GRE, (WEB, 0), (DB, 0));
    let gre = Tracked { original: bare(gre.original), reply: bare(gre.reply), ..gre };
    let icmp = |tuple: Tuple, kind| Tuple { detail: Detail::Icmp { id: 7, kind, code: 0 }, ..tuple };
    let ping = Tracked { protocol: 1, original: icmp(gre.original, 8), reply: icmp(gre.reply, 0), ..gre };
    let cut = revoker.cut([gre, ping], &listed, &ID);
    assert_eq!(cut.flows, [gre, ping]);
    let after = changed(&listed, &cut.changes);
    assert_eq!(elements(&after), [format!("{WEB} . {DB} . 47"), format!("{DB} . {WEB} . 47")]);
    assert!(!passes(&after, GRE, (WEB, 1), (DB, 2)) && !passes(&after, GRE, (DB, 3), (WEB, 4)));
    assert!(passes(&after, TCP, (WEB, 1), (DB, 2)), "another protocol");
}

#[test]
fn what_is_allowed_again_is_released_and_nothing_else() {
    let (listed, revoker) = node(&only_web());
    let (one, other) = (flow(TCP, (WEB, 4000), (DB, 81)), flow(TCP, (CLIENT, 4000), (DB, 80)));
    let cut = changed(&listed, &revoker.cut([one, other], &listed, &ID).changes);
    assert_eq!(elements(&cut).len(), 4);
    // db may answer and may open what it likes: that is no reason to let it go on with what it was asked for.
    assert_eq!(revoker.released(&cut, &ID), []);
    let mut wider = only_web();
    wider[0].1["ingress"][0]["ports"] = json!([{"port": 80}, {"port": 81}]);
    let (_, wider) = node(&wider);
    let after = changed(&cut, &wider.released(&cut, &ID));
    assert_eq!(elements(&after).len(), 2);
    assert!(passes(&after, TCP, (WEB, 4000), (DB, 81)) && passes(&after, TCP, (DB, 81), (WEB, 4000)));
    assert!(!passes(&after, TCP, (CLIENT, 4000), (DB, 80)));
    let (_, open) = node(&[]);
    assert_eq!(elements(&changed(&cut, &open.released(&cut, &ID))), [""; 0]);
}

/// Its address may be another pod's soon.
#[test]
fn what_is_none_of_the_nodes_any_more_is_released() {
    let (listed, revoker) = node(&only_web());
    let cut = changed(&listed, &revoker.cut([flow(TCP, (CLIENT, 1), (DB, 81))], &listed, &ID).changes);
    let cluster = small(&only_web());
    let mut pods = attached(&cluster, &node_1());
    pods.pods.retain(|pod| pod.whose != Whose::Pod("x/db".parse().unwrap()));
    let without = Revoker::new(cluster, &pods, []);
    assert_eq!(elements(&changed(&cut, &without.released(&cut, &ID))), [""; 0]);
}

/// The kernel may have put an element back that ran out just then: it has no comment any more.
#[test]
fn an_element_that_does_not_say_its_way_stays_until_both_are_allowed() {
    let (listed, revoker) = node(&only_web());
    let mut cut = revoker.cut([flow(TCP, (WEB, 1), (DB, 81))], &listed, &ID);
    for change in &mut cut.changes {
        let Change::AddElements(added) = change else { panic!("{change:?}") };
        added.elements.values_mut().for_each(|element| element.comment = None);
    }
    let cut = changed(&listed, &cut.changes);
    assert_eq!(revoker.released(&cut, &ID), []);
    assert_eq!(elements(&changed(&cut, &node(&[]).1.released(&cut, &ID))), [""; 0]);
}

#[test]
fn a_pod_that_is_closed_because_it_is_not_known_keeps_no_flow() {
    let cluster = small(&only_web());
    let mut pods = attached(&cluster, &node_1());
    for (namespace, address) in [("x", "10.244.1.8"), ("y", "10.244.1.9")] {
        let addresses = vec![address.parse().unwrap()];
        let interface = "slv-new".parse().unwrap();
        pods.pods.push(LocalPod { whose: Whose::Unseen(Some(namespace.to_owned())), interface, addresses });
    }
    let revoker = Revoker::new(cluster, &pods, []);
    let (closed, open) =
        (flow(TCP, ("10.244.1.8", 1), (CLIENT, 80)), flow(TCP, ("10.244.1.9", 1), (CLIENT, 80)));
    assert_eq!(revoker.cut([closed, open], &Listed::new(), &ID).flows, [closed]);
}

#[test]
fn no_more_go_into_a_set_than_it_has_room_for() {
    let (listed, revoker) = node(&only_web());
    let bare = |tuple: Tuple| Tuple { detail: Detail::Nothing, ..tuple };
    let flows = (0..2000_u32).map(|number| {
        let source = std::net::Ipv4Addr::from_bits(0xc000_0200 + number).to_string();
        let gre = flow(GRE, (&source, 0), (DB, 0));
        Tracked { original: bare(gre.original), reply: bare(gre.reply), ..gre }
    });
    let cut = revoker.cut(flows, &listed, &ID);
    assert_eq!((cut.flows.len(), cut.beyond), (2000, 2000 - 1792));
    let full = changed(&listed, &cut.changes);
    assert_eq!(elements(&full).len(), 3584);
    let one_more = revoker.cut([cut.flows[1999]], &full, &ID);
    assert_eq!((one_more.changes, one_more.beyond), (Vec::new(), 1));
}
