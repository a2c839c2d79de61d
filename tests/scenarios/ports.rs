//! Published ports on a node with an agent.

use std::net::IpAddr;

use selvedge_lab::shape::Attach;
use selvedge_model::Transport;
use selvedge_netns::Namespace;
use selvedge_tests::{Mirror, ask, must_be_silent, within};
use serde_json::{Value, json};

use crate::site::{Site, wait_until_known};

#[test]
fn everybody_reaches_a_routed_pod_by_a_port_of_its_node_whether_the_agent_runs_or_not() {
    everybody_reaches_it(Attach::Routed);
}

#[test]
fn everybody_reaches_a_bridged_pod_by_a_port_of_its_node_whether_the_agent_runs_or_not() {
    everybody_reaches_it(Attach::Bridge);
}

/// TCP and UDP of one port.
fn web(port: u16) -> Value {
    let mapping = |protocol| json!({"hostPort": port, "containerPort": 80, "protocol": protocol});
    json!({"portMappings": [mapping("tcp"), mapping("udp")]})
}

fn everybody_reaches_it(attach: Attach) {
    let Some(site) = Site::new(attach) else { return };
    let config = site.node().plugin_config();
    assert_eq!(config["capabilities"]["portMappings"], true, "runtimes pass on what is listed there");
    let published = site.cluster.attach_with(site.node(), "published", &web(8080));
    wait_until_known(&site.agent, &published);
    let _mirror = Mirror::serve(published.pod.namespace(), 80, "published");
    let must_be_reached = |site: &Site| {
        let [node, peer] = [0, 1].map(|i| &site.cluster.nodes[i]);
        let peers: Vec<IpAddr> = peer.plan.addresses.iter().map(ipnet::IpNet::addr).collect();
        for address in node.plan.addresses.iter().map(ipnet::IpNet::addr) {
            for transport in [Transport::Tcp, Transport::Udp] {
                reach(&peer.namespace, transport, address, &peers);
                reach(site.pod.pod.namespace(), transport, address, &site.pod.addresses);
                reach(&node.namespace, transport, address, &[address]);
                let seen = asked(published.pod.namespace(), transport, address);
                assert!(!published.addresses.contains(&seen), "{seen}");
            }
        }
        asked(&node.namespace, Transport::Tcp, IpAddr::from([127, 0, 0, 1]));
    };
    must_be_reached(&site);
    let repaired = site.agent.status().repaired;
    assert!(repaired.is_empty(), "publishing a port is no drift: {repaired:?}");
    let Site { agent, pod, cluster, _alone } = site;
    agent.kill();
    let agent = cluster.nodes[0].ready_agent();
    let site = Site { agent, pod, cluster, _alone };
    must_be_reached(&site);
    site.cluster.detach(site.node(), &published);
    let address = site.node().plan.addresses[0].addr();
    must_be_silent(&site.cluster.nodes[1].namespace, Transport::Tcp, (address, 8080).into());
}

fn asked(from: &Namespace, transport: Transport, address: IpAddr) -> IpAddr {
    let answer = ask(from, transport, (address, 8080).into());
    let (name, seen) = answer.unwrap_or_else(|error| panic!("{transport} {address}: {error}"));
    assert_eq!(name, "published");
    seen.ip()
}

/// Asks, and is seen as one of these.
fn reach(from: &Namespace, transport: Transport, address: IpAddr, seen_as: &[IpAddr]) {
    let seen = asked(from, transport, address);
    assert!(seen_as.contains(&seen), "{transport} {address}: seen as {seen}, not {seen_as:?}");
}

#[test]
fn the_agent_takes_back_the_ports_of_a_pod_that_nobody_detached() {
    for attach in [Attach::Routed, Attach::Bridge] {
        let Some(site) = Site::new(attach) else { return };
        let stays = site.cluster.attach_with(site.node(), "stays", &web(8080));
        let goes = site.cluster.attach_with(site.node(), "goes", &web(8081));
        let ports = || {
            let table = site.node().namespace.run(list).unwrap();
            (table.contains(&stays.host_end), table.contains(&goes.host_end))
        };
        assert_eq!(ports(), (true, true));
        drop(goes.pod);
        within(20.0, "the ports go with the pod", || {
            site.agent.ask(&json!({"do": "reconcile"}));
            if ports() == (true, false) { Ok(()) } else { Err(site.agent.log()) }
        });
        // Also where the lease is lost.
        let journal = site.node().run_dir().join("ipam/selvedge/journal");
        drop(stays.pod);
        std::fs::remove_file(journal).unwrap();
        let list = || site.node().namespace.run(list).unwrap();
        within(20.0, "so do those of a pod without a lease", || {
            site.agent.ask(&json!({"do": "reconcile"}));
            if list().contains("slv") { Err(format!("{}\n{}", list(), site.agent.log())) } else { Ok(()) }
        });
    }
}

/// The plugin's table.
fn list() -> String {
    use selvedge_datapath::firewall::PLUGIN;
    let listed = selvedge_nft::NftSocket::open().unwrap().list(&[PLUGIN]).unwrap();
    format!("{:?}", listed.get(&PLUGIN))
}
