use serde_json::{Value, json};

use super::*;
use crate::error::code;

fn stated(limits_of: &Value) -> Result<Bandwidth, CniError> {
    limits(&Object::root(limits_of).unwrap())
}

fn limited(rate: u64, burst: Option<u32>) -> Option<RateLimit> {
    Some(RateLimit { rate: rate.try_into().unwrap(), burst: burst.map(|bytes| bytes.try_into().unwrap()) })
}

#[test]
fn each_direction_is_read_by_itself_in_every_spelling() {
    let both = json!({ "IngressRate": 1_000_000, "IngressBurst": 80_000, "egressRate": 2e6, "EGRESSBURST": 160_007 });
    let (ingress, egress) = (limited(1_000_000, Some(10_000)), limited(2_000_000, Some(20_000)));
    assert_eq!(stated(&both).unwrap(), Bandwidth { ingress, egress });
    let one =
        json!({ "egressRate": 2_000_000, "egressBurst": 160_000, "ingressRate": 0, "ingressBurst": null });
    assert_eq!(stated(&one).unwrap(), Bandwidth { ingress: None, egress });
}

#[test]
fn nothing_and_zero_are_no_limit() {
    let zeroes = json!({ "ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0 });
    for nothing in [json!({}), zeroes, json!({ "ingressRate": null })] {
        assert_eq!(stated(&nothing).unwrap(), Bandwidth::default());
    }
}

#[test]
fn a_rate_goes_with_a_burst_and_a_burst_with_a_rate() {
    for (limits_of, key) in [
        (json!({ "ingressRate": 5 }), "ingressRate"),
        (json!({ "ingressBurst": 5, "ingressRate": 0 }), "ingressBurst"),
        (json!({ "egressRate": 5, "egressBurst": 0 }), "egressRate"),
        (json!({ "egressBurst": 5 }), "egressBurst"),
    ] {
        let error = stated(&limits_of).unwrap_err();
        assert_eq!(error.code(), code::CONFIG, "{error}");
        assert!(error.message().starts_with(key), "{error}");
    }
}

#[test]
fn a_burst_has_less_than_4_gib() {
    let burst = |bits: u64| stated(&json!({ "egressRate": 8, "egressBurst": bits }));
    assert_eq!(burst((1 << 35) - 1).unwrap().egress, limited(8, Some(u32::MAX)));
    assert_eq!(burst(1).unwrap().egress, limited(8, Some(1)));
    let error = burst(1 << 35).unwrap_err();
    assert!(error.code() == code::CONFIG && error.message().contains("egressBurst"), "{error}");
}

#[test]
fn the_bursts_of_runtimes_that_know_none_are_left_to_us() {
    for bits in [4_294_967_295_u64, 34_359_738_359] {
        let limits_of = json!({ "IngressRate": 8, "IngressBurst": bits });
        assert_eq!(stated(&limits_of).unwrap().ingress, limited(8, None));
    }
}

#[test]
fn what_the_configuration_limits_itself_no_runtime_changes() {
    let conf = json!({
        "name": "mynet", "subnet": "10.244.1.0/24", "ingressRate": 8000, "ingressBurst": 800,
        "runtimeConfig": { "bandwidth": { "ingressRate": 9000, "ingressBurst": 800, "egressRate": 9000, "egressBurst": 800 } }
    });
    let conf = crate::NetConf::parse(conf.to_string().as_bytes(), &[]).unwrap();
    let expected = Bandwidth { ingress: limited(8000, Some(100)), egress: limited(9000, Some(100)) };
    assert_eq!(conf.bandwidth, expected);
}
