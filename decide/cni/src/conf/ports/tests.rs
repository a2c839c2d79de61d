use serde_json::{Value, json};

use super::*;
use crate::error::code;

fn stated(mappings: &Value) -> Result<Vec<PortMapping>, CniError> {
    let runtime = json!({ "portMappings": mappings });
    port_mappings(&Object::root(&runtime).unwrap())
}

fn mapping(transport: Transport, host_ip: HostIp, host: u16, container: u16) -> PortMapping {
    let port = |port| NonZeroU16::new(port).unwrap();
    PortMapping { transport, host_ip, host_port: port(host), container_port: port(container) }
}

#[test]
fn every_spelling_of_a_mapping_is_read() {
    let rows = [
        json!({ "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }),
        json!({ "hostPort": 8080, "containerPort": 80, "protocol": "TCP" }),
        json!({ "hostport": 8080.0, "CONTAINERPORT": 80, "hostIP": null, "protocol": "" }),
    ];
    for row in rows {
        let expected = mapping(Transport::Tcp, HostIp::Any, 8080, 80);
        assert_eq!(stated(&json!([row])).unwrap(), [expected], "{row}");
    }
    let both = json!([
        { "hostPort": 53, "containerPort": 5353, "protocol": "Udp", "hostIP": "10.0.0.7" },
        { "hostPort": 53, "containerPort": 5353, "protocol": "sctp", "hostIP": "::ffff:10.0.0.7" },
    ]);
    let at = HostIp::Is("10.0.0.7".parse().unwrap());
    let expected = [mapping(Transport::Udp, at, 53, 5353), mapping(Transport::Sctp, at, 53, 5353)];
    assert_eq!(stated(&both).unwrap(), expected);
}

#[test]
fn unspecified_addresses_mean_all_of_their_family() {
    let all = json!([
        { "hostPort": 1, "containerPort": 1, "hostIP": "0.0.0.0" },
        { "hostPort": 1, "containerPort": 2, "hostIP": "::" },
    ]);
    let expected =
        [mapping(Transport::Tcp, HostIp::AnyV4, 1, 1), mapping(Transport::Tcp, HostIp::AnyV6, 1, 2)];
    assert_eq!(stated(&all).unwrap(), expected);
}

#[test]
fn a_mapping_without_a_host_port_asks_for_nothing() {
    let nothing = json!([
        { "HostPort": 0, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }, { "containerPort": 1 }, {}
    ]);
    assert_eq!(stated(&nothing).unwrap(), []);
    assert_eq!(stated(&Value::Null).unwrap(), []);
}

#[test]
fn what_is_said_twice_counts_once_and_a_contradiction_is_refused() {
    let web = json!({ "hostPort": 80, "containerPort": 80 });
    assert_eq!(stated(&json!([web, web])).unwrap().len(), 1);
    for other in [
        json!({ "hostPort": 80, "containerPort": 81 }),
        json!({ "hostPort": 80, "containerPort": 81, "hostIP": "10.0.0.1" }),
        json!({ "hostPort": 80, "containerPort": 81, "hostIP": "::" }),
    ] {
        let error = stated(&json!([web, other])).unwrap_err();
        assert_eq!(error.code(), code::CONFIG);
        assert_eq!(error.message(), "portMappings[1].hostPort 80: is published twice for tcp");
    }
    for other in [
        json!({ "hostPort": 80, "containerPort": 81, "protocol": "udp" }),
        json!({ "hostPort": 81, "containerPort": 80 }),
        json!({ "hostPort": 80, "containerPort": 80, "hostIP": "10.0.0.1" }),
    ] {
        assert_eq!(stated(&json!([web, other])).unwrap().len(), 2, "{other}");
    }
}

#[test]
fn malformed_mappings_are_refused_by_the_field() {
    let rows = [
        (json!([{ "hostPort": 65536, "containerPort": 80 }]), "portMappings[0].hostPort 65536"),
        (json!([{ "hostPort": -1, "containerPort": 80 }]), "portMappings[0].hostPort -1"),
        (json!([{ "hostPort": 80 }]), "portMappings[0].hostPort 80: is mapped to no containerPort"),
        (json!([{ "hostPort": 80, "containerPort": 0 }]), "portMappings[0].hostPort 80"),
        (json!([{ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }]), "portMappings[0].protocol"),
        (json!([{ "hostPort": 0, "containerPort": 80, "protocol": "icmp" }]), "portMappings[0].protocol"),
        (json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "localhost" }]), "portMappings[0].hostIP"),
        (json!({ "hostPort": 80 }), "portMappings"),
    ];
    for (mappings, named) in rows {
        let error = stated(&mappings).unwrap_err();
        assert_eq!(error.code(), code::CONFIG, "{mappings}: {error}");
        assert!(error.message().starts_with(named), "{mappings}: {error}");
    }
}

#[test]
fn the_loopback_of_ipv6_is_not_supported() {
    let error = stated(&json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "::1" }])).unwrap_err();
    assert_eq!(error.code(), code::UNSUPPORTED_FIELD);
    assert!(error.message().starts_with("portMappings[0].hostIP \"::1\""), "{error}");
}
