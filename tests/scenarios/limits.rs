//! Pods with limits on a node with an agent.

use selvedge_lab::shape::Attach;
use selvedge_tests::{Attached, within};
use serde_json::json;

use crate::site::{Site, name, wait_until_known};

#[test]
fn limits_of_routed_pods_are_no_drift_and_go_with_a_pod_that_nobody_detached() {
    limits_are_swept_away(Attach::Routed);
}

#[test]
fn limits_of_bridged_pods_are_no_drift_and_go_with_a_pod_that_nobody_detached() {
    limits_are_swept_away(Attach::Bridge);
}

fn limits_are_swept_away(attach: Attach) {
    let Some(site) = Site::new(attach) else { return };
    let limits = json!({"ingressRate": 20_000_000, "ingressBurst": 800_000, "egressRate": 20_000_000, "egressBurst": 800_000});
    let runtime = json!({"bandwidth": limits});
    let attach = |container| {
        let pod = site.cluster.attach_with(site.node(), container, &runtime);
        wait_until_known(&site.agent, &pod);
        pod
    };
    let (stays, goes) = (attach("stays"), attach("goes"));
    let has = |link: &str| site.node().picture().links.contains_key(&name(link));
    let [kept, lost] = [&stays, &goes].map(|pod| pod.host_end.replacen("slv", "slb", 1));
    let Attached { pod, host_end, .. } = goes;
    collect(&site);
    assert!(has(&kept) && has(&lost), "{}", site.agent.log());
    drop(pod);
    within(20.0, "the pair goes with the pod's namespace", || not(has(&host_end)));
    within(20.0, "what held it up goes too", || {
        collect(&site);
        if has(&lost) { Err(site.agent.log()) } else { Ok(()) }
    });
    assert!(has(&kept), "the other pod keeps its limits");
    site.cluster.detach(site.node(), &stays);
    within(20.0, "so does that of a pod that is detached", || not(has(&kept)));
    assert!(site.agent.status().repaired.is_empty(), "{}", site.agent.log());
}

/// Has the agent compare everything, leases and limits too.
fn collect(site: &Site) {
    assert!(site.agent.ask(&json!({"do": "reconcile"})).is_some(), "{}", site.agent.log());
}

fn not(still_there: bool) -> Result<(), String> {
    if still_there { Err("it is still there".to_owned()) } else { Ok(()) }
}
