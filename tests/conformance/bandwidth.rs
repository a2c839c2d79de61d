//! Limits of what a pod receives and sends: measured, checked, and gone with it.

mod flow;

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use selvedge_netns::Namespace;
use selvedge_tests::{Answer, Call, Pod, Stage, program, skipped, within};
use serde_json::{Value, json};

use crate::bandwidth::flow::{Flow, Transport};
use crate::config::{MODES, add, after, check, del, host_end, must_be_back, routed, traces, tutorial, with};

/// Bits a second: what a pod may receive and what it may send.
const INGRESS: u32 = 20_000_000;
const EGRESS: u32 = 40_000_000;

/// A configuration with pools of both families.
fn dual(config: Value) -> Value {
    with(config, json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]}))
}

/// The configuration as a runtime completes it for a pod with limits.
fn limited(config: Value, bandwidth: Value) -> Value {
    with(config, json!({"runtimeConfig": {"bandwidth": bandwidth}}))
}

/// Limits in both directions, with a burst of 100 kB.
fn both() -> Value {
    json!({"ingressRate": INGRESS, "ingressBurst": 800_000, "egressRate": EGRESS, "egressBurst": 800_000})
}

/// The addresses of a result.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    let net = |ip: &Value| ip["address"].as_str().unwrap().parse::<ipnet::IpNet>().unwrap();
    ips.map(|ip| net(ip).addr()).collect()
}

/// What a program prints on a node.
fn shell(node: &Namespace, line: &str) -> String {
    let output = node.run(|| Command::new("sh").args(["-ec", line]).output()).unwrap().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// True if `tc` is there to be used; otherwise that is said.
fn has_tc() -> bool {
    let there = Command::new("tc").arg("-Version").output().is_ok();
    if !there {
        skipped("tc is not installed");
    }
    there
}

#[test]
fn cap_a_routed_pod_receives_and_sends_what_it_may_and_no_more() {
    rates_are_kept(routed, [(false, 0), (false, 1), (true, 1), (true, 0)]);
}

#[test]
fn cap_a_bridged_pod_receives_and_sends_what_it_may_and_no_more() {
    rates_are_kept(tutorial, [(false, 1), (false, 0), (true, 0), (true, 1)]);
}

/// Measures towards the pod, away from it, and the same again, each by TCP or UDP (true) and in the first family or the
/// second.
fn rates_are_kept(configured: fn(&Stage) -> Value, flows: [(bool, usize); 4]) {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let config = dual(configured(&stage));
    let (pod, peer) = (stage.pod(), stage.pod());
    // As containerd spells it.
    let limits = json!({"IngressRate": INGRESS, "IngressBurst": 800_000, "EgressRate": EGRESS, "EgressBurst": 800_000});
    let shaped = limited(config.clone(), limits);
    let result = add(&stage, &shaped, "web-0", &pod);
    let elsewhere = addresses(&add(&stage, &config, "peer", &peer));
    let here = addresses(&result);
    for (number, (udp, family)) in flows.into_iter().enumerate() {
        let (from, to, address, allowed) = match number % 2 {
            0 => (&peer, &pod, here[family], INGRESS),
            _ => (&pod, &peer, elsewhere[family], EGRESS),
        };
        let transport = if udp { Transport::Udp(allowed / 2 * 3) } else { Transport::Tcp };
        must_be(&Flow { from: from.namespace(), to: to.namespace(), address, transport }, allowed);
    }
    check(&stage, &after(&shaped, &result), "web-0", &pod).done();
    del(&stage, &config, "peer", &peer).done();
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
}

/// A flow must have its rate, within a tenth. On a machine that is busy with something else, sender or receiver may be
/// late: it is measured up to three times.
fn must_be(flow: &Flow<'_>, allowed: u32) {
    let mut measured = Vec::new();
    let kept = (0..3).any(|_| {
        let now = flow.rate() / f64::from(allowed);
        println!("{:?} to {}: {now:.3} of {allowed} bit/s", flow.transport, flow.address);
        measured.push(now);
        (0.9..=1.1).contains(&now)
    });
    assert!(kept, "{flow:?}: {measured:?} of {allowed} bit/s");
}

#[test]
fn cap_a_limit_of_one_direction_leaves_the_other_alone() {
    let Some(stage) = Stage::new() else { return };
    let (pod, peer) = (stage.pod(), stage.pod());
    let limits = json!({"egressRate": 8_000_000, "egressBurst": 160_000});
    let here = addresses(&add(&stage, &limited(routed(&stage), limits), "web-0", &pod))[0];
    add(&stage, &routed(&stage), "peer", &peer);
    let (from, to) = (peer.namespace(), pod.namespace());
    let measured = Flow { from, to, address: here, transport: Transport::Udp(40_000_000) }.rate();
    assert!(
        measured > 16_000_000.0,
        "{measured} bit/s towards a pod that is limited to 8 Mbit/s in what it sends"
    );
}

#[test]
fn cap_a_burst_passes_at_once_and_what_follows_at_the_rate() {
    let Some(stage) = Stage::new() else { return };
    let peer = stage.pod();
    let elsewhere = addresses(&add(&stage, &routed(&stage), "peer", &peer))[0];
    let blasted = [400_000, 50_000].map(|bytes| {
        let pod = stage.pod();
        let bits = bytes * 8;
        let limits =
            json!({"ingressRate": 800_000, "ingressBurst": bits, "egressRate": 800_000, "egressBurst": bits});
        let name = format!("web-{bytes}");
        let here = addresses(&add(&stage, &limited(routed(&stage), limits), &name, &pod))[0];
        let (outside, inside) = (peer.namespace(), pod.namespace());
        let udp =
            |from, to, address| Flow { from, to, address, transport: Transport::Udp(0) }.blast(1_500_000);
        [udp(outside, inside, here), udp(inside, outside, elsewhere)]
    });
    for (direction, (large, small)) in ["received", "sent"].iter().zip(blasted[0].iter().zip(blasted[1])) {
        println!("{direction}: {large} bytes with a burst of 400000, {small} with one of 50000");
        // What waits in the queue comes later, and is the same.
        let more = large.saturating_sub(small);
        assert!((315_000..=385_000).contains(&more), "{direction}: {large} {small}");
    }
}

#[test]
fn cap_the_bursts_of_runtimes_that_know_none_do_not_lift_the_limit() {
    let Some(stage) = Stage::new() else { return };
    let (pod, peer) = (stage.pod(), stage.pod());
    let bursts = [4_294_967_295_u64, 34_359_738_359];
    let limits = json!({"IngressRate": INGRESS, "IngressBurst": bursts[0], "EgressRate": INGRESS, "EgressBurst": bursts[1]});
    let here = addresses(&add(&stage, &limited(routed(&stage), limits), "web-0", &pod))[0];
    let elsewhere = addresses(&add(&stage, &routed(&stage), "peer", &peer))[0];
    for (from, to, address) in [(&peer, &pod, here), (&pod, &peer, elsewhere)] {
        let flow = Flow { from: from.namespace(), to: to.namespace(), address, transport: Transport::Tcp };
        must_be(&flow, INGRESS);
    }
}

#[test]
fn cap_a_pod_cannot_lift_what_it_is_limited_to() {
    if !has_tc() {
        return;
    }
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    add(&stage, &limited(routed(&stage), both()), "web-0", &pod);
    let seen = shell(pod.namespace(), "tc qdisc show; ip -br link show type ifb");
    assert!(!seen.contains("tbf") && !seen.contains("slb"), "{seen}");
}

#[test]
fn chk_2_queueing_that_is_missing_or_altered_is_told_by_its_line() {
    if !has_tc() {
        return;
    }
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let pod = stage.pod();
        let config = limited(configured(&stage), both());
        let result = add(&stage, &config, "web-0", &pod);
        let config = after(&config, &result);
        let host = host_end(&result);
        let shaper = host.replacen("slv", "slb", 1);
        check(&stage, &config, "web-0", &pod).done();
        let bucket = |device: &str, rate: &str| {
            format!("tc qdisc replace dev {device} root handle 1: tbf {rate} burst 100000b limit ")
        };
        let filter = format!(
            "tc filter replace dev {host} parent ffff: protocol all prio 1 handle 800::800 u32 match u32 0 0 \
             action mirred egress redirect dev "
        );
        // What somebody does, and how it is made good again.
        let whole = [
            (format!("tc qdisc del dev {host} root"), bucket(&host, "rate 20mbit") + "125000b"),
            (bucket(&host, "rate 2gbit") + "125000b", bucket(&host, "rate 20mbit") + "125000b"),
            (bucket(&shaper, "rate 39mbit") + "250000b", bucket(&shaper, "rate 40mbit") + "250000b"),
            (
                format!("tc qdisc del dev {host} ingress"),
                format!("tc qdisc add dev {host} ingress; {filter}{shaper}"),
            ),
            (format!("{filter}lo"), format!("{filter}{shaper}")),
            (format!("ip link set {shaper} down"), format!("ip link set {shaper} up")),
        ];
        for (broken, mended) in whole {
            shell(stage.node(), &broken);
            let answer = check(&stage, &config, "web-0", &pod);
            let (code, message) = answer.refusal();
            assert!(
                code == 104 && (message.contains("slb") || message.contains(&host)),
                "{broken}: {message}"
            );
            shell(stage.node(), &mended);
            check(&stage, &config, "web-0", &pod).done();
        }
        shell(stage.node(), &format!("ip link del {shaper}"));
        let answer = check(&stage, &config, "web-0", &pod);
        assert!(answer.refusal().1.contains(&format!("ip link add {shaper}")), "{answer:?}");
        // A runtime that doesn't say what it asked for can't be told what has become of it.
        let silent = with(config.clone(), json!({"runtimeConfig": null}));
        check(&stage, &silent, "web-0", &pod).done();
    }
}

/// How a pod with limits goes: the call that must leave nothing.
type Ending = fn(&Stage, &Value, Pod) -> Answer;

/// Each without the limits in its configuration, and without an earlier result.
const ENDINGS: [(&str, Ending); 6] = [
    ("DEL", |stage, config, pod| del(stage, config, "web-0", &pod)),
    ("DEL without CNI_NETNS", |stage, config, pod| {
        Call::new("DEL", config.clone()).of("web-0", &pod).with("CNI_NETNS", "").run(stage.node())
    }),
    ("DEL of a pod that has gone", |stage, config, pod| {
        let call = Call::new("DEL", config.clone()).of("web-0", &pod).with("CNI_NETNS", "/run/netns/gone");
        end(stage, pod);
        call.run(stage.node())
    }),
    ("DEL of a pod that has gone, with its lease", |stage, config, pod| {
        std::fs::remove_file(stage.folder().join("ipam/mynet/journal")).unwrap();
        let call = Call::new("DEL", config.clone()).of("web-0", &pod).with("CNI_NETNS", "");
        end(stage, pod);
        call.run(stage.node())
    }),
    ("GC", |stage, config, _pod| {
        let none_valid = with(config.clone(), json!({"cni.dev/valid-attachments": []}));
        Call::new("GC", none_valid).run(stage.node())
    }),
    ("GC of a pod that has gone, with its lease", |stage, config, pod| {
        std::fs::remove_file(stage.folder().join("ipam/mynet/journal")).unwrap();
        end(stage, pod);
        Call::new("GC", config.clone()).run(stage.node())
    }),
];

#[test]
fn del_3_nothing_of_the_limits_is_left_however_the_pod_goes() {
    for ((how, ending), configured) in ENDINGS.into_iter().flat_map(|ending| MODES.map(|mode| (ending, mode)))
    {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        let config = configured(&stage);
        let pod = stage.pod();
        add(&stage, &limited(config.clone(), both()), "web-0", &pod);
        assert_eq!(traces(&stage).with("link slb").len(), 1, "{how}");
        ending(&stage, &config, pod).done();
        must_be_back(&before, &stage);
    }
}

/// Ends a pod's namespace and waits until the kernel has taken the pair away with it.
fn end(stage: &Stage, pod: Pod) {
    drop(pod);
    within(20.0, "a pod's host end goes with its namespace", || {
        let left = traces(stage);
        if left.with("link slv").is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn del_3_a_device_of_somebody_elses_is_neither_used_nor_taken_away() {
    if !has_tc() {
        return;
    }
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = limited(routed(&stage), both());
    let first = host_end(&add(&stage, &config, "web-0", &pod));
    del(&stage, &config, "web-0", &pod).done();
    let taken = first.replacen("slv", "slb", 1);
    shell(stage.node(), &format!("ip link add {taken} type ifb"));
    let before = traces(&stage);
    let second = host_end(&add(&stage, &config, "web-0", &pod));
    assert_ne!(first, second, "the host end has another name, and so has the device beside it");
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
    // Without a limit nothing needs that name.
    assert_eq!(host_end(&add(&stage, &routed(&stage), "web-0", &pod)), first);
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
}

#[test]
fn add_7_what_a_pod_that_has_gone_left_is_in_nobodys_way() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        let config = limited(configured(&stage), both());
        let pod = stage.pod();
        add(&stage, &config, "web-0", &pod);
        std::fs::remove_file(stage.folder().join("ipam/mynet/journal")).unwrap();
        end(&stage, pod);
        let pod = stage.pod();
        let result = add(&stage, &config, "web-0", &pod);
        check(&stage, &after(&config, &result), "web-0", &pod).done();
        del(&stage, &config, "web-0", &pod).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn add_7_a_call_that_fails_takes_the_limits_back() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let config = limited(routed(&stage), both()).to_string();
    let before = traces(&stage);
    let run = || {
        let mut add = Command::new(program("selvedge"));
        add.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "web-0").env("CNI_IFNAME", "eth0");
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        add.env("CNI_NETNS", pod.path()).stdin(Stdio::piped()).stdout(full).stderr(Stdio::null());
        let mut child = add.spawn()?;
        child.stdin.take().unwrap().write_all(config.as_bytes())?;
        child.wait()
    };
    let status = stage.node().run(run).unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    must_be_back(&before, &stage);
}

#[test]
fn after_an_add_with_limits_that_was_killed_at_any_moment_one_del_leaves_nothing() {
    const KILLS: u32 = 30;
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let shaped = limited(config.clone(), both());
        let before = traces(&stage);
        let pod = stage.pod();
        let begun = Instant::now();
        add(&stage, &shaped, "web-0", &pod);
        let whole = begun.elapsed();
        del(&stage, &config, "web-0", &pod).done();
        for kill in 0..KILLS {
            let call = Call::new("ADD", shaped.clone()).of("web-0", &pod).start(stage.node());
            thread::sleep(whole * kill / KILLS);
            call.kill();
            // Every second time without the namespace.
            let netns = if kill % 2 == 0 { pod.path().display().to_string() } else { String::new() };
            let call = Call::new("DEL", config.clone()).of("web-0", &pod);
            call.with("CNI_NETNS", &netns).run(stage.node()).done();
            must_be_back(&before, &stage);
        }
    }
}
