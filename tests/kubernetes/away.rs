//! The API server is away for minutes, and nodes go on.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::kubernetes::{say, until};
use selvedge_tests::{Echo, Stream, knock};

use crate::cluster::Cluster;
use crate::{install, pods, table};

#[test]
fn pods_come_and_go_while_the_api_server_is_away() {
    let Some(mut cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    let web = table::pods(&cluster, "web", 6);
    let seconds = env::var("SELVEDGE_AWAY_SECONDS").map_or(300, |text| text.parse().unwrap());
    cluster.control.stop_api();
    let stopped = Instant::now();
    say(&format!("the API server is away for {seconds} s"));
    // The first pod of each node goes, as far as its kubelet can tell; another sandbox comes in its place.
    for node in &cluster.nodes {
        let before: Vec<_> = pods::on(node).into_iter().map(|(network, _)| network.identity()).collect();
        let own = node.machine.node().identity();
        let sandboxes = node.machine.processes("pause");
        let pod = sandboxes.into_iter().find(|id| node.machine.network_of(*id).identity() != own);
        node.machine.kill(pod.expect("a pod has a sandbox"));
        let (network, address) = until(120, "another sandbox is wired without the API", || {
            let mut new =
                pods::on(node).into_iter().filter(|(network, _)| !before.contains(&network.identity()));
            new.next().ok_or_else(|| "there is none yet".to_owned())
        });
        let echo = Echo::serve(&network);
        let others = cluster.nodes.iter().filter(|other| other.name != node.name);
        for (from, _) in others.flat_map(pods::on) {
            until(60, "pods of other nodes reach it", || {
                knock(&from, address).map_err(|error| error.to_string())
            });
        }
        drop(echo);
        say(&format!("{} made another sandbox, which all other nodes' pods reach", node.name));
    }
    let (from, to) = (pods::on(&cluster.nodes[0]).remove(0), pods::on(&cluster.nodes[1]).remove(0));
    let echo = Echo::serve(&to.0);
    let stream = Stream::open(&from.0, to.1).unwrap();
    thread::sleep(Duration::from_secs(seconds).saturating_sub(stopped.elapsed()));
    cluster.start_api();
    cluster.nodes_are_ready(3, 120);
    install::agents_are_ready(&cluster);
    say(&format!("all is back; a stream carried {} numbers meanwhile", stream.close()));
    drop(echo);
    let now = until(120, "the API knows the pods' new addresses", || {
        let now = table::pods(&cluster, "web", 6);
        let known = now.iter().all(|pod| {
            let node = cluster.node(&pod.node);
            pods::on(node).iter().any(|(_, address)| address.to_string() == pod.address)
        });
        if known && now != web { Ok(now) } else { Err(format!("{now:?}")) }
    });
    table::must_be_green(&cluster, &now, "web");
}
