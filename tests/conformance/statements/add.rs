//! ADD-1 to ADD-9.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use selvedge_tests::{FakeIpam, Traces};
use serde_json::{Value, json};

use crate::hand::{change, look, name, new_link};
use crate::process::wait_for;
use crate::statements::del::SLOW_IPAM;
use crate::statements::reply::ResultText;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

statements! {
    "ADD-1" Must add_1_the_container_has_its_interface_its_addresses_and_its_routes
    "After ADD the container has the interface under its name, up, with its addresses and its routes."
    "ADD-2" Must add_2_an_existing_interface_is_refused_and_nothing_changes
    "ADD of an interface that is there already fails and changes nothing, the live attachment's address \
     least of all."
    "ADD-3" Must add_3_the_result_names_the_interfaces_and_ties_each_address_to_the_containers
    "The result names the host's interfaces without and the container's with a sandbox, and ties each \
     address, with its gateway, to the container's."
    "ADD-4" Runtimes add_4_the_interface_in_the_sandbox_has_the_mac_that_the_kernel_shows
    "Each interface with a sandbox has the MAC address that the kernel shows, and there is at least one \
     address."
    "ADD-5" Must add_5_what_earlier_plugins_made_is_passed_on_with_fields_that_nobody_knows
    "A chained ADD passes the earlier result on with what it adds, unknown fields included."
    "ADD-6" Convention add_6_an_interface_that_an_earlier_plugin_made_is_taken_up_or_refused_with_code_7
    "Behind a plugin that made the interface, the interface is taken up or the chain refused with code 7."
    "ADD-7" Runtimes add_7_an_add_that_fails_or_is_terminated_leaves_nothing
    "An ADD that fails, or is ended by SIGTERM, takes back everything."
    "ADD-8" Runtimes add_8_a_second_add_of_the_same_attachment_is_refused_and_changes_nothing
    "A second ADD of the same container and interface is refused with a code from 100 up and changes nothing."
    "ADD-9" Runtimes add_9_the_runtimes_dns_goes_before_the_configurations
    "The configuration's dns is in the result, and the runtime's goes before it."
}

fn add_1_the_container_has_its_interface_its_addresses_and_its_routes(on: &Subject) -> Verdict {
    let pod = on.pod();
    let result = on.add(&on.in_subnets(&on.config(), &DUAL), "web-0", &pod)?;
    let links = look(pod.namespace()).links;
    on.must(links.get(&name("eth0")).is_some_and(|link| link.up), "the interface is not there, or down");
    let seen = Traces::in_pod(pod.namespace());
    let addresses = result.list("/ips");
    on.must(addresses.len() == 2, "not an address of each family");
    for ip in addresses {
        on.must(!seen.with(&format!("address {}", ip.text("/address"))).is_empty(), "an address is missing");
        let default = format!("/0 via {}", ip.text("/gateway"));
        on.must(!seen.with(&default).is_empty(), "a default route is missing");
    }
    Ok(())
}

fn add_2_an_existing_interface_is_refused_and_nothing_changes(on: &Subject) -> Verdict {
    let pod = on.pod();
    let empty = on.settled()?;
    change(pod.namespace(), &[new_link("eth0")]);
    let inside = Traces::in_pod(pod.namespace());
    on.note(on.ask("ADD", &on.config()).of("web-0", &pod).run().refused(), "beside a foreign interface");
    on.must_be_as(&empty, "beside a foreign interface");
    on.must(Traces::in_pod(pod.namespace()) == inside, "the foreign interface is changed");
    let pod = on.pod();
    on.add(&on.config(), "web-1", &pod)?;
    let (node, inside) = (on.state(), Traces::in_pod(pod.namespace()));
    on.note(on.ask("ADD", &on.config()).of("web-2", &pod).run().refused(), "beside a live attachment");
    on.must_be_as(&node, "beside a live attachment");
    on.must(Traces::in_pod(pod.namespace()) == inside, "the live attachment is changed");
    Ok(())
}

fn add_3_the_result_names_the_interfaces_and_ties_each_address_to_the_containers(on: &Subject) -> Verdict {
    let pod = on.pod();
    let config = on.in_subnets(&on.config_with(json!({"dns": {"nameservers": ["10.96.0.10"]}})), &DUAL);
    let result = on.add(&config, "web-0", &pod)?;
    let inside = result.inside();
    on.must(inside.text("/name") == "eth0", "the container's interface is not named");
    on.must(inside.text("/sandbox") == pod.path().display().to_string(), "its sandbox is another");
    let on_host = |interface: &&Value| interface.text("/sandbox").is_empty();
    let host = result.list("/interfaces").iter().filter(on_host).filter(|i| !i.text("/name").is_empty());
    on.must(host.count() == 2, "the bridge and the host's end are not named");
    for ip in result.list("/ips") {
        let index = ip["interface"].as_u64().and_then(|index| usize::try_from(index).ok());
        let interface = index.and_then(|index| result.list("/interfaces").get(index));
        on.must(interface == Some(inside), "an address is tied to another interface");
        on.must(!ip.text("/gateway").is_empty(), "an address has no gateway");
    }
    on.must(result.list("/routes").len() == 2, "the default routes are not named");
    Ok(())
}

fn add_4_the_interface_in_the_sandbox_has_the_mac_that_the_kernel_shows(on: &Subject) -> Verdict {
    let pod = on.pod();
    let result = on.add(&on.config(), "web-0", &pod)?;
    let mac = look(pod.namespace()).links[&name("eth0")].mac.map(|mac| mac.to_string()).unwrap_or_default();
    on.must(result.inside().text("/mac") == mac, "another MAC address");
    on.must(!result.addresses().is_empty(), "no address");
    Ok(())
}

fn add_5_what_earlier_plugins_made_is_passed_on_with_fields_that_nobody_knows(on: &Subject) -> Verdict {
    let before = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/x", "mac": "02:00:00:00:00:01", "x-pci": "0000:1f"}],
        "ips": [{"interface": 0, "address": "192.0.2.7/24", "gateway": "192.0.2.1", "x-lease": 60}],
        "routes": [{"dst": "198.51.100.0/24", "gw": "192.0.2.1", "x-table": 7}],
        "x-unknown": {"kept": true},
    });
    let config = on.config_with(json!({"cniVersion": "1.0.0", "prevResult": before}));
    let result = on.add(&config, "web-0", &on.pod())?;
    let kept = |list: &&str| result[list].get(0) == before[list].get(0);
    let lost: Vec<_> = ["interfaces", "ips", "routes"].into_iter().filter(|list| !kept(list)).collect();
    on.must(lost.is_empty(), format!("lost or changed: {}", lost.join(", ")));
    on.must(result["x-unknown"] == before["x-unknown"], "unknown fields are lost");
    on.must(result.addresses().contains(&"10.244.1.2"), "its own address is not added");
    Ok(())
}

fn add_6_an_interface_that_an_earlier_plugin_made_is_taken_up_or_refused_with_code_7(
    on: &Subject,
) -> Verdict {
    let before = on.settled()?;
    let pod = on.pod();
    change(pod.namespace(), &[new_link("eth0")]);
    let sandbox = pod.path().display().to_string();
    let made =
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": sandbox}], "ips": []});
    let config = on.config_with(json!({"cniVersion": "1.0.0", "prevResult": made}));
    let reply = on.ask("ADD", &config).of("web-0", &pod).run();
    if reply.succeeded() {
        return Ok(());
    }
    on.must_be_as(&before, "after the refusal");
    reply.refused_with(&[7])?;
    Ok(())
}

fn add_7_an_add_that_fails_or_is_terminated_leaves_nothing(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let (ipam, pod) = (FakeIpam::new(on.stage(), IMPOSSIBLE_ADDRESS), on.pod());
    let empty = Traces::in_pod(pod.namespace()).with("eth0").len();
    on.ask("ADD", &on.delegating(FakeIpam::TYPE)).of("web-0", &pod).finding(&ipam).run().refused()?;
    on.must_be_as(&before, "after an address that cannot be");
    on.must(
        Traces::in_pod(pod.namespace()).with("eth0").len() == empty,
        "the interface stays in the container",
    );
    let full = on.anew();
    let config = full.in_subnets(&full.config(), &["10.244.2.0/30"]);
    let resident = full.pod();
    full.add(&config, "resident", &resident)?;
    let before = full.state();
    full.ask("ADD", &config).of("web-0", &full.pod()).run().refused()?;
    full.must_be_as(&before, "after an exhausted pool");
    terminated(&on.anew())
}

/// The kernel refuses the second address, when the first is there already.
pub(super) const IMPOSSIBLE_ADDRESS: &str = r#"case $CNI_COMMAND in ADD)
    echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.250/24", "gateway": "10.244.1.1"},
        {"address": "ff02::5/64"}]}' ;;
    esac"#;

fn terminated(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let ipam = FakeIpam::giving(on.stage(), SLOW_IPAM);
    let pod = on.pod();
    let asked = on.ask("ADD", &on.delegating(FakeIpam::TYPE)).of("web-0", &pod).finding(&ipam).start();
    wait_for(|| !ipam.environment().is_empty());
    let process = i32::try_from(asked.running.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    fs::write(on.stage().folder().join("go"), "").unwrap();
    on.must(!asked.reply().succeeded(), "ADD succeeds after SIGTERM");
    on.must_be_as(&before, "after SIGTERM");
    on.must(ipam.calls().iter().any(|verb| verb == "DEL"), "after SIGTERM, the delegate keeps its address");
    Ok(())
}

fn add_8_a_second_add_of_the_same_attachment_is_refused_and_changes_nothing(on: &Subject) -> Verdict {
    let (pod, another) = (on.pod(), on.pod());
    on.add(&on.config(), "web-0", &pod)?;
    let (node, inside) = (on.state(), Traces::in_pod(pod.namespace()));
    for (what, netns) in [("in its namespace", &pod), ("in another namespace", &another)] {
        on.note(on.ask("ADD", &on.config()).of("web-0", netns).run().refused_by_itself(), what);
        on.must_be_as(&node, what);
        on.must(Traces::in_pod(pod.namespace()) == inside, format!("{what}, the container is changed"));
    }
    Ok(())
}

fn add_9_the_runtimes_dns_goes_before_the_configurations(on: &Subject) -> Verdict {
    let stated = json!({"nameservers": ["10.96.0.10"], "search": ["svc"]});
    let result = on.add(&on.config_with(json!({"dns": stated})), "web-0", &on.pod())?;
    on.must(result["dns"] == stated, "the configuration's is not in the result");
    let runtime = json!({"dns": {"servers": ["10.96.0.11"], "searches": ["pod"], "options": ["ndots:5"]}});
    let config = on.config_with(json!({"dns": stated, "runtimeConfig": runtime}));
    let result = on.add(&config, "web-1", &on.pod())?;
    let expected = json!({"nameservers": ["10.96.0.11"], "search": ["pod"], "options": ["ndots:5"]});
    on.must(result["dns"] == expected, "the runtime's does not go before it");
    Ok(())
}
