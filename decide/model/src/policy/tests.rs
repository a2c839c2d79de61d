use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_block_has_its_network_without_the_exceptions_and_the_ends_of_both() {
    let block = IpBlock::new(net("10.0.0.9/24"), [net("10.0.0.128/25"), net("10.0.0.7/32")]).unwrap();
    assert_eq!(block.to_string(), "10.0.0.0/24 except 10.0.0.7/32, 10.0.0.128/25");
    for (address, expected) in [
        ("10.0.0.0", true),
        ("10.0.0.6", true),
        ("10.0.0.7", false),
        ("10.0.0.127", true),
        ("10.0.0.128", false),
        ("10.0.0.255", false),
        ("10.0.1.0", false),
        ("fd00::1", false),
    ] {
        assert_eq!(block.contains(address.parse().unwrap()), expected, "{address}");
    }
    let all6 = IpBlock::new(net("::/0"), []).unwrap();
    assert!(all6.contains("fd00::1".parse().unwrap()) && !all6.contains("10.0.0.1".parse().unwrap()));
}

#[test]
fn an_exception_must_be_a_part_of_its_block_and_smaller() {
    let except = |cidr, except| IpBlock::new(net(cidr), [net(except)]).unwrap_err().to_string();
    assert_eq!(except("10.0.0.0/24", "10.1.0.0/16"), "10.1.0.0/16 lies outside 10.0.0.0/24");
    assert_eq!(except("10.0.0.0/24", "10.0.0.0/16"), "10.0.0.0/16 lies outside 10.0.0.0/24");
    assert_eq!(except("0.0.0.0/0", "fd00::/8"), "fd00::/8 lies outside 0.0.0.0/0");
    assert_eq!(except("10.0.0.0/24", "10.0.0.3/24"), "10.0.0.0/24 leaves nothing of 10.0.0.0/24");
}

#[test]
fn a_port_name_is_what_a_container_could_call_its_port() {
    for name in ["a", "http", "http-2", "2b", "fifteen-letters"] {
        assert!(PortName::new(name).is_some(), "{name}");
    }
    for text in ["", "80", "-a", "a-", "a--b", "HTTP", "a_b", "sixteen-letters-"] {
        assert!(PortName::new(text).is_none(), "{text}");
    }
}
