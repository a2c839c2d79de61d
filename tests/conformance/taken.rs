//! What somebody has already: an ADD takes neither routes nor addresses.

use selvedge_datapath::state::Route;
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_tests::{Answer, Call, Pod, Stage};
use serde_json::{Value, json};

use crate::config::{MODES, add, address, after, check, del, must_be_back, traces, tutorial, with};
use crate::hand::{add_address, change, delete_link, look, must_run, name, new_link, route, set};

/// The plugin's own code: an address can't be had.
const NO_ADDRESS: u64 = 101;

/// What the first pod of [`dual`] gets.
const FIRST: [&str; 2] = ["10.244.1.2", "fd00:10:244:1::2"];

fn dual(stage: &Stage, configured: fn(&Stage) -> Value) -> Value {
    with(configured(stage), json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]}))
}

fn try_add(stage: &Stage, config: &Value, container: &str, pod: &Pod) -> Answer {
    Call::new("ADD", config.clone()).of(container, pod).run(stage.node())
}

/// An ADD that must be refused because of an address, which the message begins with; and what it names of its holder.
fn must_be_refused(stage: &Stage, config: &Value, address: &str) -> String {
    let (before, pod) = (traces(stage), stage.pod());
    let answer = try_add(stage, config, "refused", &pod);
    let (code, message) = answer.refusal();
    assert_eq!(code, NO_ADDRESS, "{message}");
    let holder = message.strip_prefix(&format!("{address} can't be had: "));
    let holder = holder.unwrap_or_else(|| panic!("{message}")).to_owned();
    must_be_back(&before, stage);
    assert!(!look(pod.namespace()).links.contains_key(&name("eth0")));
    holder
}

/// Somebody's link, up.
fn somebodys_link(stage: &Stage) {
    change(stage.node(), &[new_link("somebodys"), set("somebodys", LinkChange::Up)]);
}

#[test]
fn a_host_route_that_somebody_had_became_ours_and_went_with_the_pod() {
    for configured in MODES {
        for (at, taken) in FIRST.iter().enumerate() {
            let Some(stage) = Stage::new() else { return };
            let config = dual(&stage, configured);
            somebodys_link(&stage);
            let there = route(&format!("{taken}/{}", [32, 128][at]), None, "somebodys");
            change(stage.node(), &[NetStep::AddRoute(there.clone())]);
            let (before, pod) = (traces(&stage), stage.pod());
            let holder = must_be_refused(&stage, &config, taken);
            assert_eq!(holder, format!("the node has a route to it already: {there}"));
            // The next one gets others, and its DEL leaves the route alone.
            let result = add(&stage, &config, "web-0", &pod);
            assert_eq!(address(&result), "10.244.1.3");
            del(&stage, &after(&config, &result), "web-0", &pod).done();
            must_be_back(&before, &stage);
            // The address is free again.
            change(stage.node(), &[NetStep::DeleteRoute(there)]);
            let asking = with(config, json!({"runtimeConfig": {"ips": [taken]}}));
            let result = add(&stage, &asking, "web-0", &pod);
            check(&stage, &after(&asking, &result), "web-0", &pod).done();
        }
    }
}

#[test]
fn a_pod_got_an_address_that_the_node_has_itself() {
    for configured in MODES {
        for (at, taken) in FIRST.iter().enumerate() {
            let Some(stage) = Stage::new() else { return };
            let config = dual(&stage, configured);
            somebodys_link(&stage);
            change(stage.node(), &[add_address("somebodys", &format!("{taken}/{}", [32, 128][at]))]);
            let holder = must_be_refused(&stage, &config, taken);
            assert_eq!(holder, "the node has it itself, on somebodys");
            let pod = stage.pod();
            assert_eq!(address(&add(&stage, &config, "web-0", &pod)), "10.244.1.3");
            let asking = with(config, json!({"runtimeConfig": {"ips": [taken]}}));
            must_be_refused(&stage, &asking, taken);
        }
    }
}

#[test]
fn a_second_networks_pod_got_the_address_of_the_firsts() {
    let others = [json!({"name": "othernet"}), json!({"name": "othernet", "bridge": "other0"})];
    for [first, second] in MODES.iter().flat_map(|first| MODES.map(|second| [*first, second])) {
        for other in &others {
            let Some(stage) = Stage::new() else { return };
            let (before, pod) = (traces(&stage), stage.pod());
            let first = dual(&stage, first);
            let second = with(dual(&stage, second), other.clone());
            let result = add(&stage, &first, "web-0", &pod);
            let first = after(&first, &result);
            let holder = must_be_refused(&stage, &second, FIRST[0]);
            assert!(holder.contains(" slv"), "{holder}");
            check(&stage, &first, "web-0", &pod).done();
            // The next one gets others; and without it the first is as it was.
            let beside = stage.pod();
            let result = add(&stage, &second, "web-1", &beside);
            assert_eq!(address(&result), "10.244.1.3");
            del(&stage, &after(&second, &result), "web-1", &beside).done();
            check(&stage, &first, "web-0", &pod).done();
            del(&stage, &first, "web-0", &pod).done();
            must_be_back(&before, &stage);
            // Free again.
            let asking = with(second, json!({"runtimeConfig": {"ips": FIRST}}));
            assert_eq!(address(&add(&stage, &asking, "web-1", &beside)), FIRST[0]);
        }
    }
}

#[test]
fn an_address_that_a_port_of_the_same_name_once_had_was_refused() {
    let Some(stage) = Stage::new() else { return };
    let (config, pod, next) = (tutorial(&stage), stage.pod(), stage.pod());
    let result = add(&stage, &config, "web-0", &pod);
    let port = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    // As an earlier attachment leaves it that nobody swept, when the call that made the port again was killed.
    let stale = format!("add element bridge selvedge-cni addresses4 {{ \"{port}\" . 10.244.1.3 }}");
    if must_run(stage.node(), "nft", &[&stale]).is_none() {
        return;
    }
    let result = add(&stage, &config, "web-1", &next);
    assert_eq!(address(&result), "10.244.1.3");
    check(&stage, &after(&config, &result), "web-1", &next).done();
    let elements =
        must_run(stage.node(), "nft", &["list", "set", "bridge", "selvedge-cni", "addresses4"]).unwrap();
    assert_eq!(elements.matches("10.244.1.3").count(), 1, "the first may send from it no more: {elements}");
}

#[test]
fn routes_that_somebody_made_in_the_pod_were_replaced() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let routes = json!({"subnet": null, "ipam": {"ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "10.9.0.0/16"}]}});
        let (config, pod) = (with(configured(&stage), routes), stage.pod());
        let gateway = if config["attach"] == "routed" { "169.254.1.1" } else { "10.244.1.1" };
        for destination in [format!("{gateway}/32"), "10.9.0.0/16".to_owned()] {
            let steps = [
                new_link("somebodys"),
                set("somebodys", LinkChange::Up),
                NetStep::AddRoute(route(&destination, None, "somebodys")),
            ];
            change(pod.namespace(), &steps);
            let main = || {
                let four = |route: &Route| route.destination.addr().is_ipv4();
                look(pod.namespace()).routes.into_iter().filter(four).collect::<Vec<_>>()
            };
            let there = main();
            let result = add(&stage, &config, "web-0", &pod);
            assert_eq!(main(), there);
            check(&stage, &after(&config, &result), "web-0", &pod).done();
            del(&stage, &after(&config, &result), "web-0", &pod).done();
            assert_eq!(main(), there);
            assert!(there.iter().all(|route| route.protocol.0 != ROUTE_PROTOCOL));
            change(pod.namespace(), &[delete_link("somebodys")]);
        }
    }
}
