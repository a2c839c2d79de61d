//! What the tutorials end with: two pods on each node, and every way between them.

use selvedge_tests::kubernetes::{run, say, until};

use crate::cluster::Cluster;
use crate::{install, table};

#[test]
fn the_tutorials_pods_reach_all_that_they_should_and_nothing_is_left_of_us_afterwards() {
    let Some(cluster) = Cluster::start() else { return };
    install::install(&cluster);
    cluster.apply(&table::deployment("web", 6));
    let pods = table::pods(&cluster, "web", 6);
    say("two pods on each node are ready");
    table::must_be_green(&cluster, &pods, "web");
    it_is_seen_from_afar(&cluster);
    the_agents_are_small(&cluster);
    cluster.type_in("delete deployment web");
    table::pods(&cluster, "web", 0);
    install::uninstall(&cluster);
}

/// What an agent of a small cluster may need, in kB.
const MOST_MEMORY: u64 = 15 * 1024;

fn the_agents_are_small(cluster: &Cluster) {
    let resident = "sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' $(grep -lx selvedge-agent /proc/[0-9]*/comm | sed s/comm/status/)";
    for node in &cluster.nodes {
        let memory = run(node.machine.command("sh").args(["-c", resident]));
        say(&format!("the agent of {} has {} kB resident", node.name, memory.trim()));
        let memory: u64 = memory.trim().parse().unwrap();
        assert!(memory < MOST_MEMORY);
    }
}

/// What `selvedgectl` shows of the whole cluster, and its own check of every path.
fn it_is_seen_from_afar(cluster: &Cluster) {
    let see = |words: &[&str]| run(cluster.control.selvedgectl(&cluster.programs).args(words));
    let status = until(60, "all nodes are ready", || {
        let mut status = cluster.control.selvedgectl(&cluster.programs);
        let shown = status.args(["status", "--cluster"]).output().map_err(|error| error.to_string())?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        if shown.ends_with("3 of 3 nodes are ready.\n") { Ok(shown) } else { Err(shown) }
    });
    say(&format!("selvedgectl status --cluster\n{status}"));
    let leases = see(&["ipam", "--cluster"]);
    assert_eq!(leases.matches(" default/web-").count(), 6, "{leases}");
    let paths = see(&["check", "--connectivity"]);
    say(&format!("selvedgectl check --connectivity\n{paths}"));
    until(300, "the pods of the check are gone", || {
        let namespaces = cluster.type_in("get namespaces");
        if namespaces.contains("selvedge-check") { Err(namespaces) } else { Ok(()) }
    });
}
