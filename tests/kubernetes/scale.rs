//! Many pods, and few again.

use std::collections::BTreeSet;

use selvedge_tests::kubernetes::{say, until};

use crate::cluster::Cluster;
use crate::{install, pods, table};

#[test]
fn a_deployment_is_scaled_to_thirty_pods_and_back() {
    let Some(cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 3));
    table::pods(&cluster, "web", 3);
    cluster.type_in("scale deployment web --replicas 30");
    let many = table::pods(&cluster, "web", 30);
    say("thirty pods are ready");
    let addresses: BTreeSet<_> = many.iter().map(|pod| &pod.address).collect();
    assert_eq!(addresses.len(), 30, "an address has two owners: {many:?}");
    let ask = many.iter().map(|pod| format!("timeout 5 wget -q -O - http://{}/cgi-bin/who", pod.address));
    let heard = cluster.exec(&many[0].name, &["sh", "-c", &ask.collect::<Vec<_>>().join("\n")]).unwrap();
    let said: Vec<_> = many.iter().map(|pod| format!("{} {}", pod.name, many[0].address)).collect();
    assert_eq!(heard.lines().collect::<Vec<_>>(), said);
    cluster.type_in("scale deployment web --replicas 3");
    let few = table::pods(&cluster, "web", 3);
    say("three are ready");
    table::must_be_green(&cluster, &few, "web");
    for node in &cluster.nodes {
        let stay = few.iter().filter(|pod| pod.node == node.name).count();
        until(60, "what thirty pods left is gone", || {
            let (left, host_ends) = (pods::on(node).len(), node.host_ends());
            if (left, host_ends) == (stay, stay) {
                Ok(())
            } else {
                Err(format!("{left} namespaces and {host_ends} host ends of {stay} pods"))
            }
        });
    }
}
