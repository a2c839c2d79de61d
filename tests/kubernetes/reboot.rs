//! A node reboots, and another leaves for good.

use selvedge_tests::kubernetes::{say, until};

use crate::cluster::Cluster;
use crate::{install, table};

#[test]
fn a_node_comes_back_from_a_reboot_with_its_pods() {
    let Some(mut cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    table::pods(&cluster, "web", 6);
    cluster.reboot(1);
    say("node-b boots again");
    install::agents_are_ready(&cluster);
    cluster.nodes_are_ready(3, 120);
    // The API may still have the pods for ready that were there before.
    until(180, "node-b's pods run again", || {
        let node = &cluster.nodes[1];
        let running = crate::pods::on(node).len();
        if running == 2 { Ok(()) } else { Err(format!("{running} do")) }
    });
    let web = table::pods(&cluster, "web", 6);
    table::must_be_green(&cluster, &web, "web");
}

#[test]
fn a_node_that_is_drained_and_deleted_leaves_no_route() {
    let Some(mut cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    table::pods(&cluster, "web", 6);
    let network = cluster.get("node node-c")["spec"]["podCIDR"].as_str().unwrap().to_owned();
    for node in &cluster.nodes[..2] {
        assert!(node.routes().contains(&network), "{}:\n{}", node.name, node.routes());
    }
    cluster.type_in("drain node-c --ignore-daemonsets --force --timeout 120s");
    say("node-c is drained");
    until(30, "no host end is left on node-c", || {
        let ends = cluster.nodes[2].host_ends();
        if ends == 0 { Ok(()) } else { Err(format!("{ends} are")) }
    });
    cluster.type_in("delete node node-c");
    drop(cluster.nodes.pop());
    for node in &cluster.nodes {
        until(60, "the route to node-c's pods is gone", || {
            if node.routes().contains(&network) { Err(node.routes()) } else { Ok(()) }
        });
    }
    say("node-c is deleted, and the routes to it are gone");
    let web = table::pods(&cluster, "web", 6);
    table::must_be_green(&cluster, &web, "web");
}
