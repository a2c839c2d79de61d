//! status and gc, which only the newer cnitool has.

use selvedge_tests::within;
use serde_json::json;

use super::{Cnitool, Container, Suite};
use crate::ip;

/// Three containers, added.
fn three(tool: &Cnitool) -> [Container; 3] {
    ["one", "two", "three"].map(|name| {
        let container = tool.container(name);
        tool.add(&container);
        container
    })
}

#[test]
fn status_says_whether_an_add_would_succeed() {
    for attach in ["bridge", "routed"] {
        let Some(tool) = Cnitool::of(Suite::Sid) else { return };
        let mut ours = tool.ours(attach);
        // Addresses for two containers, after the gateway's.
        ours["subnet"] = json!(null);
        ours["ipam"] = json!({"ranges": [[{"subnet": "10.244.1.0/29", "rangeEnd": "10.244.1.3"}]]});
        tool.configure("1.1.0", &[ours]);
        let before = tool.footprint();
        let [one, two, three] = ["one", "two", "three"].map(|name| tool.container(name));
        tool.run("status", &one).done();
        tool.add(&one);
        tool.run("status", &one).done();
        tool.add(&two);
        let said = tool.run("status", &one);
        let answer = tool.answered("STATUS").unwrap();
        assert_eq!(answer["code"], 50, "{answer}");
        assert!(said.reason().contains(answer["msg"].as_str().unwrap()), "{said:?}");
        assert!(!tool.run("add", &three).reason().is_empty());
        tool.run("del", &three).done();
        tool.run("del", &one).done();
        tool.run("status", &two).done();
        tool.run("del", &two).done();
        tool.must_be_back(&before);
    }
}

#[test]
fn gc_takes_every_container_that_cnitool_remembers() {
    for attach in ["bridge", "routed"] {
        let Some(tool) = Cnitool::of(Suite::Sid) else { return };
        tool.configure("1.1.0", &[tool.ours(attach)]);
        let before = tool.footprint();
        let mut containers = three(&tool);
        containers[0].end();
        for _ in 0..2 {
            tool.run("gc", &containers[0]).done();
            tool.must_be_back(&before);
            let keys: Vec<String> = tool.handed("GC").as_object().unwrap().keys().cloned().collect();
            assert!(!keys.iter().any(|key| key.starts_with("cni.dev/")), "{keys:?}");
        }
        for container in &containers[1..] {
            assert!(!ip::has_link(container.namespace(), "eth0"));
        }
    }
}

#[test]
fn gc_of_a_cnitool_that_remembers_nothing_takes_only_what_has_lost_its_namespace() {
    for attach in ["bridge", "routed"] {
        let Some(tool) = Cnitool::of(Suite::Sid) else { return };
        tool.configure("1.1.0", &[tool.ours(attach)]);
        let empty = tool.footprint();
        let living = tool.container("living");
        tool.add(&living);
        tool.lose_cache();
        let before = tool.footprint();
        let mut containers = three(&tool);
        tool.lose_cache();
        containers.iter_mut().for_each(Container::end);
        within(20.0, "the kernel deletes the pairs", || {
            let links = ip::must(tool.node(), "ip -oneline link");
            if links.matches(": slv").count() == 1 { Ok(()) } else { Err(links) }
        });
        tool.run("gc", &living).done();
        tool.must_be_back(&before);
        tool.run("del", &living).done();
        tool.must_be_back(&empty);
    }
}
