use super::*;

/// Isolates db for what it receives; web may open TCP/80 there.
fn cluster() -> Cluster {
    let web = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
    let ingress = json!([{"from": web, "ports": [{"port": 80}]}]);
    small(&[("x/db", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": ingress}))])
}

/// What a packet between the two pods of the node meets, forth and back: `flags` of TCP, and its state.
fn between(table: &Table, ends: (&str, &str), tcp: TcpFlags, state: CtStates) -> bool {
    let interface = |address: &str| match address {
        "10.244.1.2" => Some("slv-x-web".parse().unwrap()),
        "10.244.1.3" => Some("slv-x-db".parse().unwrap()),
        _ => Some("eth0".parse().unwrap()),
    };
    let flow = Flow {
        source: Source::Address(ends.0.parse().unwrap()),
        destination: ends.1.parse().unwrap(),
        protocol: Protocol::Port(Transport::Tcp, 80),
    };
    let packet =
        Packet { iif: interface(ends.0), oif: interface(ends.1), tcp: Some(tcp), state, ..packet(&flow) };
    trace(table, Hook::Forward, &packet).unwrap().verdict == selvedge_ruleset::Policy::Accept
}

/// The trap: the answerer's next packet would open the flow from its side, where policy allows it.
#[test]
fn no_connection_is_taken_up_in_the_middle_where_an_end_is_isolated() {
    let cluster = cluster();
    let table = compile(&cluster, &attached(&cluster, &node_1()));
    let (web, db, outside) = ("10.244.1.2", "10.244.1.3", "192.0.2.9");
    let passes = |ends, flags| between(&table, ends, flags, CtStates::NEW);
    for (ends, opens) in [((web, db), true), ((db, web), true), ((db, outside), true), ((outside, db), false)]
    {
        assert_eq!(passes(ends, TcpFlags::SYN), opens, "{ends:?}");
        for flags in [TcpFlags::ACK, TcpFlags::SYN.or(TcpFlags::ACK), TcpFlags::FIN.or(TcpFlags::ACK)] {
            assert!(!passes(ends, flags), "{ends:?} {flags:?}");
            let established = between(&table, ends, flags, CtStates::ESTABLISHED);
            assert!(established, "what is tracked goes on: {ends:?} {flags:?}");
        }
    }
    // Nobody is isolated here: what is older than the table goes on.
    assert!(passes((web, outside), TcpFlags::ACK) && passes((outside, web), TcpFlags::ACK));
}
