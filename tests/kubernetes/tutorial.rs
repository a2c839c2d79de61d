//! What the tutorials end with: two pods on each node, and every way between them.

use crate::cluster::Cluster;
use crate::folder::say;
use crate::{install, table};

#[test]
fn the_tutorials_pods_reach_all_that_they_should_and_nothing_is_left_of_us_afterwards() {
    let Some(cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    let pods = table::pods(&cluster, "web", 6);
    say("two pods on each node are ready");
    table::must_be_green(&cluster, &pods, "web");
    cluster.type_in("delete deployment web");
    table::pods(&cluster, "web", 0);
    install::uninstall(&cluster);
}
