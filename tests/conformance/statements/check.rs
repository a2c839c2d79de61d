//! CHK-1 to CHK-7.

use std::fs;
use std::os::unix::net::UnixListener;

use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_tests::{Echo, FakeIpam, Pod, knock};
use serde_json::{Value, json};

use crate::config::after;
use crate::hand::{
    add_address, change, delete_address, delete_link, delete_route, look, must_run, name, route, set,
};
use crate::statements::reply::{ResultText, Unmet};
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "CHK-1" Must chk_1_without_an_earlier_result_or_in_a_version_without_check_it_is_refused
    "CHECK without prevResult is refused with code 7, in a version before 0.4.0 with code 1."
    "CHK-2" Should chk_2_whatever_of_the_attachment_is_missing_or_changed_is_noticed
    "CHECK notices whatever of the attachment is missing or changed: interfaces, addresses, routes, MAC \
     address, reservation, rules."
    "CHK-3" Must chk_3_what_later_plugins_of_the_chain_add_and_change_is_allowed
    "What later plugins of the chain add, and the MAC address that they changed, is allowed."
    "CHK-4" Must chk_4_succeeds_right_after_add
    "CHECK succeeds right after ADD, with one family and with two: cri-o calls it there."
    "CHK-5" Should chk_5_the_delegate_is_asked_and_its_error_passed_on
    "CHECK asks the delegated plugin and passes its error on."
    "CHK-6" Should chk_6_the_death_of_the_agent_takes_no_connectivity_and_no_check
    "CHECK fails if a process that connectivity needs is dead. Ours needs none: with a dead agent pods talk, \
     and CHECK succeeds."
    "CHK-7" Runtimes chk_7_changes_nothing_whether_it_succeeds_or_fails
    "CHECK changes nothing, whether it succeeds or fails."
}

fn chk_1_without_an_earlier_result_or_in_a_version_without_check_it_is_refused(on: &Subject) -> Verdict {
    let pod = on.pod();
    let result = on.add(&on.config(), "web-0", &pod)?;
    let without = on.ask("CHECK", &on.config()).of("web-0", &pod).run();
    on.note(without.refused_with(&[7]), "without prevResult");
    let old = on.check(&after(&on.in_version("0.3.1"), &result), "web-0", &pod);
    on.note(old.refused_with(&[1]), "in 0.3.1");
    Ok(())
}

/// A way to break an attachment, given its host end and its address.
type Breakage = (&'static str, fn(&Subject, &Pod, &Value));

const BREAKAGES: &[Breakage] = &[
    ("the interface down", |_, pod, _| change(pod.namespace(), &[set("eth0", LinkChange::Down)])),
    ("the interface gone", |_, pod, _| change(pod.namespace(), &[delete_link("eth0")])),
    ("the address gone", |_, pod, result| {
        change(pod.namespace(), &[delete_address("eth0", result.text("/ips/0/address"))]);
    }),
    ("the default route gone", |_, pod, _| delete_route(pod.namespace(), "0.0.0.0/0")),
    ("another MAC address", |_, pod, _| {
        change(pod.namespace(), &[set("eth0", LinkChange::Mac("02:00:00:00:00:07".parse().unwrap()))]);
    }),
    ("the host's end down", |on, _, result| {
        change(on.stage().node(), &[set(result.host_end().unwrap(), LinkChange::Down)]);
    }),
    ("the host's end out of the bridge", |on, _, result| {
        change(on.stage().node(), &[set(result.host_end().unwrap(), LinkChange::Master(None))]);
    }),
    ("the gateway's address gone", |on, _, _| {
        change(on.stage().node(), &[delete_address("cni0", "10.244.1.1/24")]);
    }),
    ("the reservation gone", |on, _, _| on.lose_reservations()),
    ("the rules gone", |on, _, _| drop(must_run(on.stage().node(), "nft", &["flush", "ruleset"]))),
    ("forwarding off", |on, _, _| {
        let off = || fs::write("/proc/sys/net/ipv4/ip_forward", "0");
        on.stage().node().run(off).unwrap().unwrap();
    }),
];

fn chk_2_whatever_of_the_attachment_is_missing_or_changed_is_noticed(on: &Subject) -> Verdict {
    let mut unnoticed = Vec::new();
    for (what, break_it) in BREAKAGES {
        let on = on.anew();
        let pod = on.pod();
        let result = on.add(&on.config(), "web-0", &pod)?;
        on.check(&after(&on.config(), &result), "web-0", &pod).done()?;
        break_it(&on, &pod, &result);
        if on.check(&after(&on.config(), &result), "web-0", &pod).succeeded() {
            unnoticed.push(*what);
        }
    }
    let (pod, other) = (on.pod(), on.pod());
    on.add(&on.config(), "web-0", &pod)?;
    let second = on.add(&on.config(), "web-1", &other)?;
    if on.check(&after(&on.config(), &second), "web-0", &pod).succeeded() {
        unnoticed.push("another's address");
    }
    on.must(unnoticed.is_empty(), format!("not noticed: {}", unnoticed.join(", ")));
    Ok(())
}

fn chk_3_what_later_plugins_of_the_chain_add_and_change_is_allowed(on: &Subject) -> Verdict {
    let pod = on.pod();
    let mut result = on.add(&on.config(), "web-0", &pod)?;
    let mac = "02:00:00:00:00:07";
    let steps = [
        add_address("eth0", "192.0.2.7/24"),
        NetStep::ReplaceRoute(route("198.51.100.0/24", Some("192.0.2.1"), "eth0")),
        set("eth0", LinkChange::Mac(mac.parse().unwrap())),
    ];
    change(pod.namespace(), &steps);
    for interface in result["interfaces"].as_array_mut().unwrap() {
        if !interface.text("/sandbox").is_empty() {
            interface["mac"] = json!(mac);
        }
    }
    on.check(&after(&on.config(), &result), "web-0", &pod).done()?;
    Ok(())
}

fn chk_4_succeeds_right_after_add(on: &Subject) -> Verdict {
    let dual = on.in_subnets(&on.config(), &["10.244.1.0/24", "fd00:10:244:1::/64"]);
    for (number, config) in [on.config(), dual].iter().enumerate() {
        let (id, pod) = (format!("web-{number}"), on.pod());
        let result = on.add(config, &id, &pod)?;
        on.check(&after(config, &result), &id, &pod).done()?;
    }
    Ok(())
}

fn chk_5_the_delegate_is_asked_and_its_error_passed_on(on: &Subject) -> Verdict {
    let ipam = FakeIpam::giving(
        on.stage(),
        r#"[ $CNI_COMMAND != CHECK ] || { echo '{"cniVersion": "1.0.0", "code": 121, "msg": "no such lease"}'; exit 1; }"#,
    );
    let pod = on.pod();
    let config = on.delegating(FakeIpam::TYPE);
    let result = on.ask("ADD", &config).of("web-0", &pod).finding(&ipam).run().result()?;
    let asked = on.ask("CHECK", &after(&config, &result)).of("web-0", &pod).finding(&ipam).run();
    on.must(ipam.calls() == ["ADD", "CHECK"], "the delegate is not asked");
    asked.refused_with(&[121])?;
    Ok(())
}

fn chk_6_the_death_of_the_agent_takes_no_connectivity_and_no_check(on: &Subject) -> Verdict {
    if !on.is_ours() {
        return Err(Unmet::NotApplicable("has no agent"));
    }
    let socket = on.stage().folder().join("agent.sock");
    // An agent that was ready and was killed: its socket is there and refuses connections.
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(on.stage().folder().join("ready"), "").unwrap();
    for attach in ["routed", "bridge"] {
        let alone = on.config_with(json!({"attach": attach, "name": attach}));
        let node = (on.pod(), on.pod());
        // The node is prepared as an agent would have done it before its death.
        on.add(&alone, "before", &on.pod())?;
        let config = on
            .config_with(json!({"attach": attach, "name": attach, "agent": socket, "whenAgentDown": "open"}));
        let first = on.add(&config, "web-0", &node.0)?;
        let second = on.add(&config, "web-1", &node.1)?;
        let _echo = Echo::serve(node.1.namespace());
        let to = second.addresses()[0].parse().unwrap();
        on.must(knock(node.0.namespace(), to).is_ok(), format!("{attach} pods do not reach each other"));
        on.note(on.check(&after(&config, &first), "web-0", &node.0).done(), attach);
        for (id, pod) in [("web-0", &node.0), ("web-1", &node.1), ("before", &node.0)] {
            on.del(&config, id, pod).done()?;
        }
    }
    Ok(())
}

fn chk_7_changes_nothing_whether_it_succeeds_or_fails(on: &Subject) -> Verdict {
    let pod = on.pod();
    let result = on.add(&on.config(), "web-0", &pod)?;
    let before = on.state();
    on.check(&after(&on.config(), &result), "web-0", &pod).done()?;
    on.must_be_as(&before, "after a success");
    change(pod.namespace(), &[delete_address("eth0", result.text("/ips/0/address"))]);
    let (broken, inside) = (on.state(), look(pod.namespace()).links);
    on.check(&after(&on.config(), &result), "web-0", &pod).refused()?;
    on.must_be_as(&broken, "after a failure");
    let still = &look(pod.namespace()).links[&name("eth0")].addresses;
    on.must(*still == inside[&name("eth0")].addresses, "the container is changed after a failure");
    Ok(())
}
