//! The agents are replaced while pods talk to each other.

use selvedge_tests::kubernetes::say;
use selvedge_tests::{Echo, Stream};

use crate::cluster::Cluster;
use crate::{install, pods, table};

#[test]
fn no_connection_notices_that_the_agents_are_rolled() {
    let Some(cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    let web = table::pods(&cluster, "web", 6);
    let networks: Vec<_> = web.iter().map(|pod| pods::network_of(&cluster, pod)).collect();
    let echoes: Vec<_> = networks.iter().map(Echo::serve).collect();
    // Each to the next and to the one after it: more would take the machine from the cluster.
    let pairs = (0..web.len()).flat_map(|i| [1, 2].map(|next| (i, (i + next) % web.len())));
    let streams: Vec<_> = pairs
        .map(|(from, to)| Stream::open(&networks[from], web[to].address.parse().unwrap()).unwrap())
        .collect();
    say(&format!("{} streams run", streams.len()));
    cluster.type_in("-n kube-system rollout restart daemonset selvedge");
    cluster.type_in("-n kube-system rollout status daemonset selvedge --timeout 180s");
    say("the agents are rolled");
    let numbers: u64 = streams.into_iter().map(Stream::close).sum();
    say(&format!("no stream broke; {numbers} numbers went there and back"));
    drop(echoes);
    table::must_be_green(&cluster, &web, "web");
}
