//! add, check and del in every version of the protocol.

use selvedge_netns::Namespace;
use selvedge_tests::{Echo, knock};
use serde_json::Value;

use super::{Cnitool, Container, Suite};
use crate::ip;

const ATTACH: [&str; 2] = ["bridge", "routed"];

/// Something that goes wrong with an attachment whose host end has this name, and a part of what is said of it.
struct Breakage {
    attach: &'static str,
    does: fn(&Cnitool, &Container, &str),
    said: &'static str,
}

const BREAKAGES: &[Breakage] = &[
    Breakage {
        attach: "bridge",
        does: |_, pod, _| drop(ip::must(pod.namespace(), "ip address del 10.244.1.2/24 dev eth0")),
        said: "in the container, this would have to be done: ip addr add 10.244.1.2/24",
    },
    Breakage {
        attach: "bridge",
        does: |tool, _, host| drop(ip::must(tool.node(), &format!("ip link set {host} down"))),
        said: "in the host, this would have to be done: ip link set",
    },
    Breakage {
        attach: "routed",
        does: |tool, _, _| drop(ip::must(tool.node(), "ip route del 10.244.1.2")),
        said: "in the host, this would have to be done: ip route add 10.244.1.2/32",
    },
    Breakage {
        attach: "routed",
        does: |_, pod, _| drop(ip::must(pod.namespace(), "ip route del default")),
        said: "in the container, this would have to be done: ip route add 0.0.0.0/0 via 169.254.1.1",
    },
];

fn in_every_version(suite: Suite, versions: &[&str], scenario: fn(&Cnitool, &str, &str)) {
    for (version, attach) in versions.iter().flat_map(|version| ATTACH.map(|attach| (version, attach))) {
        let Some(tool) = Cnitool::of(suite) else { return };
        tool.configure(version, &[tool.ours(attach)]);
        println!("version {version}, attach {attach}");
        scenario(&tool, version, attach);
    }
}

/// From nothing to nothing.
fn a_container_comes_and_goes(tool: &Cnitool, version: &str, attach: &str) {
    let before = tool.footprint();
    let web = tool.container("web");
    let result = tool.add(&web);
    assert_eq!(
        meaning(&result),
        meaning(&tool.answered("ADD").unwrap()),
        "the Go types lost or changed something"
    );
    assert_eq!(result["cniVersion"], version);
    answers(tool.node(), web.namespace());
    checks(tool, version, attach, &web);
    for _ in 0..2 {
        tool.run("del", &web).done();
        tool.must_be_back(&before);
        assert!(!ip::has_link(web.namespace(), "eth0"));
    }
}

/// A result without a `dns` that says nothing: some versions of the library write it and others don't.
fn meaning(result: &Value) -> Value {
    let mut result = result.clone();
    let dns = result["dns"].as_object().is_none_or(serde_json::Map::is_empty);
    result.as_object_mut().filter(|_| dns).and_then(|result| result.remove("dns"));
    result
}

/// Packets go there and back in both families: what ADD reports has been carried out.
fn answers(node: &Namespace, pod: &Namespace) {
    let _echo = Echo::serve(pod);
    for to in ["10.244.1.2", "fd00:10:244:1::2"] {
        knock(node, to.parse().unwrap()).unwrap();
    }
}

/// check says what the plugin says: nothing while all is well, and what has to be done once something is not.
fn checks(tool: &Cnitool, version: &str, attach: &str, web: &Container) {
    if version < "0.4.0" {
        let said = tool.run("check", web);
        assert!(said.reason().contains("does not support the CHECK command"), "{said:?}");
        assert!(!tool.was_asked("CHECK"));
        return;
    }
    tool.run("check", web).done();
    let prev_result = &tool.handed("CHECK")["prevResult"];
    assert_eq!(meaning(prev_result), meaning(&tool.answered("ADD").unwrap()));
    let host = host_end(prev_result);
    for breakage in BREAKAGES.iter().filter(|breakage| breakage.attach == attach) {
        (breakage.does)(tool, web, &host);
        let said = tool.run("check", web);
        let answer = tool.answered("CHECK").unwrap();
        assert_eq!(answer["code"], 104, "{answer}");
        assert!(answer["msg"].as_str().unwrap().starts_with(breakage.said), "{answer}");
        assert!(said.reason().contains(answer["msg"].as_str().unwrap()), "{said:?}\n{answer}");
        // The next one starts from a whole attachment again.
        tool.run("del", web).done();
        tool.add(web);
        tool.run("check", web).done();
    }
}

/// The name of the host end in a result.
fn host_end(result: &Value) -> String {
    let interfaces = result["interfaces"].as_array().unwrap();
    let host = interfaces.iter().find(|i| i["name"].as_str().unwrap().starts_with("slv")).unwrap();
    host["name"].as_str().unwrap().to_owned()
}

/// del with one thing after the other lost.
fn del_needs_nothing(tool: &Cnitool, _: &str, _: &str) {
    let before = tool.footprint();
    for (ended, forgotten) in [(true, false), (false, true), (true, true)] {
        let mut web = tool.container("web");
        tool.add(&web);
        if forgotten {
            tool.lose_cache();
        }
        if ended {
            web.end();
        }
        for _ in 0..2 {
            tool.run("del", &web).done();
            tool.must_be_back(&before);
        }
        if !ended {
            web.end();
        }
    }
    // And for a container that never was.
    let mut never = tool.container("never");
    tool.run("del", &never).done();
    never.end();
    tool.run("del", &never).done();
    tool.must_be_back(&before);
}

const UP_TO_1_0_0: &[&str] = &["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

#[test]
fn a_container_comes_and_goes_in_every_version_of_bookworms() {
    in_every_version(Suite::Bookworm, UP_TO_1_0_0, a_container_comes_and_goes);
}

#[test]
fn a_container_comes_and_goes_in_the_versions_of_sids() {
    in_every_version(Suite::Sid, &["0.4.0", "1.0.0", "1.1.0"], a_container_comes_and_goes);
}

#[test]
fn del_needs_neither_the_namespace_nor_the_cache_in_any_version_of_bookworms() {
    in_every_version(Suite::Bookworm, UP_TO_1_0_0, del_needs_nothing);
}

#[test]
fn del_needs_neither_the_namespace_nor_the_cache_in_the_versions_of_sids() {
    in_every_version(Suite::Sid, &["1.0.0", "1.1.0"], del_needs_nothing);
}
