//! Token buckets and redirections, held against `tc`.

use std::process::{Command, Output};

use selvedge_datapath::shaping::{Shaping, TokenBucket};
use selvedge_datapath::state::LinkKind;

use super::*;

/// What `tc` and `ip` say in a namespace; `None`, with the reason printed, where they aren't installed.
fn shell(namespace: &Namespace, line: &str) -> Option<Output> {
    let output = namespace.run(|| Command::new("sh").args(["-ec", line]).output()).unwrap().unwrap();
    if output.status.code() == Some(127) {
        println!("skipped: iproute2 is not installed");
        assert!(std::env::var_os("CI").is_none(), "skipped under CI: {line}: {output:?}");
        return None;
    }
    assert!(output.status.success(), "{line}: {output:?}");
    Some(output)
}

/// The number behind a key, in JSON as `tc` writes it.
fn number(json: &str, key: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {json}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

pub(super) fn ifb(device: &str) -> NetStep {
    let alias = "selvedge net c-1/eth0 10.244.1.7/32".to_owned();
    NetStep::CreateIfb { name: name(device), mac: mac(4), mtu: Mtu::new(1450).unwrap(), alias }
}

fn set_bucket(device: &str, bucket: TokenBucket) -> NetStep {
    NetStep::SetBucket { device: name(device), bucket }
}

fn redirect(device: &str, to: &str) -> NetStep {
    NetStep::Redirect { device: name(device), to: name(to) }
}

fn bucket(rate: u64, burst: u32, limit: u32) -> TokenBucket {
    TokenBucket { rate, burst, limit }
}

/// A pair that is held up in both directions.
fn limited() -> Vec<NetStep> {
    vec![
        NetStep::CreateVeth(pair("slvtest", "eth0")),
        ifb("slbtest"),
        set_bucket("slbtest", bucket(2_500_000, 100_000, 125_000)),
        set("slbtest", LinkChange::Up),
        set_bucket("slvtest", bucket(1_250_000, 15_180, 81_920)),
        redirect("slvtest", "slbtest"),
        set("slvtest", LinkChange::Up),
    ]
}

fn shaping(wire: &mut Wire, device: &str) -> Shaping {
    wire.host.observe_shaping(&name(device)).unwrap()
}

#[test]
fn what_is_asked_for_is_observed_and_asking_again_changes_nothing() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&limited());
    let made = [shaping(&mut wire, "slvtest"), shaping(&mut wire, "slbtest")];
    let shown = bucket(1_250_000, 15_180, 81_920).shown();
    assert_eq!(made[0], Shaping { bucket: Some(shown), redirect: Some(name("slbtest")) });
    let shown = bucket(2_500_000, 100_000, 125_000).shown();
    assert_eq!(made[1], Shaping { bucket: Some(shown), redirect: None });
    let link = wire.host_link("slbtest");
    assert_eq!((link.kind, link.mac, link.mtu, link.up), (LinkKind::Ifb, Some(mac(4)), 1450, true));
    assert_eq!(link.alias, "selvedge net c-1/eth0 10.244.1.7/32");
    wire.on_host(&limited()[1..]);
    assert_eq!(made, [shaping(&mut wire, "slvtest"), shaping(&mut wire, "slbtest")]);
    wire.on_host(&[set_bucket("slvtest", bucket(7, 1518, 81_920))]);
    assert_eq!(shaping(&mut wire, "slvtest").bucket.map(|bucket| bucket.rate), Some(7));
}

#[test]
fn buckets_of_every_size_are_shown_as_they_are_computed() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[ifb("slbtest")]);
    for rate in [1, 125, 12_345, 1_250_000, u64::from(u32::MAX), 1 << 32, 12_500_000_000, 125_000_000_000_000]
    {
        for burst in [1518, 100_000, 536_870_911, u32::MAX] {
            let asked = bucket(rate, burst, 81_920);
            wire.on_host(&[set_bucket("slbtest", asked)]);
            assert_eq!(shaping(&mut wire, "slbtest").bucket, Some(asked.shown()), "{asked}");
        }
    }
}

#[test]
fn tc_shows_the_bucket_that_was_asked_for() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&limited());
    for rate in [1_250_000, 12_500_000_000] {
        wire.on_host(&[set_bucket("slvtest", bucket(rate, 2_000_000, 81_920))]);
        let Some(said) = shell(&wire.host_namespace, "tc -j qdisc show dev slvtest root") else { return };
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!((number(&said, "rate"), number(&said, "limit")), (rate, 81_920), "{said}");
        // `tc` computes it from whole microseconds.
        let burst = number(&said, "burst");
        assert!(burst.abs_diff(2_000_000) <= rate / 1_000_000 + 1, "{said}");
    }
    let Some(said) = shell(&wire.host_namespace, "tc filter show dev slvtest ingress") else { return };
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("mirred (Egress Redirect to device slbtest) stolen"), "{said}");
    assert!(said.contains("pref 1 u32") && said.contains("fh 800::800"), "{said}");
}

#[test]
fn the_lines_that_an_operator_would_type_do_the_same() {
    let (Some(mut wire), Some(mut typed)) = (Wire::new(), Wire::new()) else { return };
    wire.on_host(&limited());
    typed.on_host(&limited()[..1]);
    for step in &limited()[1..] {
        if shell(&typed.host_namespace, &step.to_string()).is_none() {
            return;
        }
    }
    for device in ["slvtest", "slbtest"] {
        assert_eq!(shaping(&mut typed, device), shaping(&mut wire, device), "{device}");
    }
}

#[test]
fn other_peoples_queueing_is_none_of_ours() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&limited()[..2]);
    assert_eq!(shaping(&mut wire, "slvtest"), Shaping::default());
    assert_eq!(shaping(&mut wire, "none"), Shaping::default());
    let foreign = "tc qdisc add dev slvtest root handle 1: htb; tc qdisc add dev slvtest ingress; \
        tc filter add dev slvtest parent ffff: protocol ip prio 7 u32 match u32 0 0 action mirred egress redirect dev slbtest";
    if shell(&wire.host_namespace, foreign).is_some() {
        assert_eq!(shaping(&mut wire, "slvtest"), Shaping::default());
    }
}

#[test]
fn a_redirection_to_a_device_that_is_gone_is_none() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&limited());
    wire.on_host(&[NetStep::DeleteLink { name: name("slbtest") }]);
    assert_eq!(shaping(&mut wire, "slvtest").redirect, None);
    wire.on_host(&[ifb("slbtest"), redirect("slvtest", "slbtest")]);
    assert_eq!(shaping(&mut wire, "slvtest").redirect, Some(name("slbtest")));
}

#[test]
fn a_link_of_that_name_that_is_somebody_elses_is_left_as_it_is() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("slbtest", "eth0"))]);
    let before = wire.host_link("slbtest");
    let refused = wire.host.apply_until_failure(&[ifb("slbtest")], None).unwrap_err();
    assert!(refused.is_exists(), "{refused:?}");
    assert_eq!(wire.host_link("slbtest"), before);
}

#[test]
fn an_ifb_is_set_aside_and_reaped_as_veths_are() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&limited());
    for device in ["slvtest", "slbtest"] {
        wire.host.detach(&name(device)).unwrap().unwrap();
    }
    assert!(wire.host.reap_group().unwrap());
    let left: Vec<IfName> = wire.host.observe().unwrap().links.into_keys().collect();
    assert_eq!(left, [name("lo")]);
}
