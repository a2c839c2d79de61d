//! The reference plugins that give addresses, as ours asks them to.

use std::fs;

use selvedge_tests::{Call, Echo};
use serde_json::{Value, json};

use super::site::{self, reach};
use super::{Cnitool, Container, Suite};
use crate::ip;

/// A network whose addresses a reference plugin gives, and two containers of it.
struct Served {
    tool: Cnitool,
    ours: Value,
    suite: Suite,
    web: Container,
    client: Container,
}

/// Runs a scenario for each suite and way to attach pods; nothing may be left in the end.
fn with(ipam: fn(&Cnitool) -> Value, scenario: fn(&mut Served)) {
    for (suite, attach) in
        Suite::ALL.iter().flat_map(|suite| ["bridge", "routed"].map(|attach| (*suite, attach)))
    {
        let Some((tool, _outside)) = site::node(suite) else { return };
        println!("attach {attach}");
        let mut ours = tool.ours(attach);
        (ours["subnet"], ours["ipam"], ours["runDir"]) = (json!(null), ipam(&tool), json!(tool.run_dir()));
        tool.configure(suite.newest(), std::slice::from_ref(&ours));
        let [web, client] = ["web", "client"].map(|name| tool.container(name));
        let before = tool.footprint();
        let mut served = Served { tool, ours, suite, web, client };
        scenario(&mut served);
        served.tool.must_be_back(&before);
    }
}

fn host_local(tool: &Cnitool) -> Value {
    json!({
        "type": "host-local",
        "dataDir": tool.var_lib().join("cni/networks"),
        "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]],
    })
}

fn static_(_: &Cnitool) -> Value {
    json!({
        "type": "static",
        "addresses": [
            {"address": "10.9.0.7/24", "gateway": "10.9.0.1"},
            {"address": "fd09::7/64", "gateway": "fd09::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["10.96.0.10"], "search": ["svc"]},
    })
}

impl Served {
    /// The reservations that host-local has.
    fn reserved(&self) -> Vec<String> {
        let folder = self.tool.var_lib().join("cni/networks/mynet");
        let names = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with(|first: char| first.is_ascii_hexdigit()));
        names.sort();
        names
    }

    /// The container has these addresses, and is reached at each.
    fn answers(&self, container: &Container, result: &Value, addresses: [&str; 2]) {
        let _echo = Echo::serve(container.namespace());
        for (number, address) in addresses.into_iter().enumerate() {
            let reported = result["ips"][number]["address"].as_str().unwrap();
            assert_eq!(reported.split('/').next(), Some(address));
            let to = if address.contains(':') { format!("[{address}]:7") } else { format!("{address}:7") };
            reach(self.tool.node(), &to).unwrap_or_else(|error| panic!("{to}: {error}"));
        }
    }
}

#[test]
fn host_local_gives_both_families_and_gets_them_back() {
    with(host_local, |served| {
        let Served { tool, web, client, .. } = served;
        let (first, second) = (tool.add(web), tool.add(client));
        served.answers(&served.web, &first, ["10.9.0.2", "fd09::2"]);
        served.answers(&served.client, &second, ["10.9.0.3", "fd09::3"]);
        assert_eq!(served.reserved(), ["10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"]);
        let Served { tool, web, client, .. } = served;
        for container in [&*web, &*client] {
            tool.run("check", container).done();
            tool.run("del", container).done();
            tool.run("del", container).done();
        }
        assert!(served.reserved().is_empty());
    });
}

#[test]
fn host_locals_own_check_is_passed_on() {
    with(host_local, |served| {
        let Served { tool, web, .. } = served;
        tool.add(web);
        tool.run("check", web).done();
        for name in served.reserved() {
            fs::remove_file(served.tool.var_lib().join("cni/networks/mynet").join(name)).unwrap();
        }
        let Served { tool, web, .. } = served;
        let said = tool.run("check", web);
        assert!(said.reason().contains("host-local: Failed to find address"), "{said:?}");
        tool.run("del", web).done();
    });
}

#[test]
fn host_local_gets_its_addresses_back_without_namespace_and_cache() {
    with(host_local, |served| {
        let Served { tool, web, .. } = served;
        tool.add(web);
        tool.lose_cache();
        web.end();
        tool.run("del", web).done();
        assert!(served.reserved().is_empty());
    });
}

#[test]
fn status_and_gc_reach_a_delegate_that_knows_them() {
    with(host_local, |served| {
        if served.suite == Suite::Bookworm {
            return;
        }
        let Served { tool, web, client, .. } = served;
        tool.run("status", web).done();
        tool.add(web);
        tool.add(client);
        tool.run("gc", web).done();
        assert!(served.reserved().is_empty());
    });
}

/// host-local knows no GC of its own: whoever takes an attachment away gives its addresses back one by one.
#[test]
fn gc_3_what_a_delegate_does_not_sweep_by_itself_is_given_back_for_each_attachment() {
    with(host_local, |served| {
        if served.suite == Suite::Bookworm {
            return;
        }
        let Served { tool, ours, web, client, .. } = served;
        tool.add(web);
        let kept = tool.footprint();
        tool.add(client);
        let id = |name: &str| {
            let reservation = tool.var_lib().join("cni/networks/mynet").join(name);
            fs::read_to_string(reservation).unwrap().lines().next().unwrap().trim().to_owned()
        };
        let (valid, client) = (json!([{"containerID": id("10.9.0.2"), "ifname": "eth0"}]), id("10.9.0.3"));
        let mut config = ours.clone();
        (config["cniVersion"], config["name"]) = (json!("1.1.0"), json!("mynet"));
        config["cni.dev/valid-attachments"] = valid;
        let path = site::reference(Suite::Sid).unwrap();
        let gc = Call::new("GC", config).with("CNI_PATH", &path.display().to_string());
        gc.run(tool.node()).done();
        fs::remove_file(tool.var_lib().join(format!("cni/results/mynet-{client}-eth0"))).unwrap();
        tool.must_be_back(&kept);
        tool.run("check", web).done();
        tool.run("del", web).done();
    });
}

#[test]
fn static_gives_what_it_is_told_to_and_finds_its_gateways_again() {
    with(static_, |served| {
        let result = served.tool.add(&served.web);
        served.answers(&served.web, &result, ["10.9.0.7", "fd09::7"]);
        assert_eq!(result["dns"], json!({"nameservers": ["10.96.0.10"], "search": ["svc"]}));
        assert!(ip::must(served.web.namespace(), "ip route").contains("192.0.2.0/24"));
        let Served { tool, web, .. } = served;
        tool.run("check", web).done();
        if served.suite == Suite::Sid {
            tool.run("status", web).done();
        }
        tool.run("del", web).done();
        tool.run("del", web).done();
    });
}
