use proptest::prelude::*;

use super::*;

fn key(container: &str, ifname: &str) -> AttachmentKey {
    AttachmentKey { container: container.parse().unwrap(), ifname: ifname.parse().unwrap() }
}

#[test]
fn a_container_id_that_is_a_path_is_refused() {
    for bad in ["", "../x", "a/b", "-a", ".a", "a b", "a\n"] {
        assert!(bad.parse::<ContainerId>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn an_interface_name_obeys_the_kernels_rules() {
    for good in ["eth0", "a", "123456789012345", "net1.5"] {
        assert!(good.parse::<IfName>().is_ok(), "{good:?} was refused");
    }
    for bad in ["", "1234567890123456", ".", "..", "a/b", "a:b", "a b", "a\tb"] {
        assert!(bad.parse::<IfName>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn a_name_that_a_link_may_have_is_not_always_one_that_can_be_made() {
    for bad in ["br%d", "lo%", "all", "default", "voil\u{e0}"] {
        let name: IfName = bad.parse().unwrap();
        let refused = name.can_be_made().unwrap_err().to_string();
        assert!(refused.contains(&format!("interface name {bad:?}")), "{refused}");
    }
    for good in ["eth0", "defaults", "br\u{e9}"] {
        assert_eq!(good.parse::<IfName>().unwrap().can_be_made(), Ok(()));
    }
}

#[test]
fn a_host_veth_name_is_stable_and_fits() {
    let network: NetworkName = "mynet".parse().unwrap();
    let name = host_veth_name(&network, &key("c1", "eth0"), 0);
    assert_eq!(name.as_str().len(), IfName::MAX);
    assert!(name.as_str().parse::<IfName>().is_ok());
    assert_eq!(name, host_veth_name(&network, &key("c1", "eth0"), 0));
    assert_ne!(name, host_veth_name(&network, &key("c1", "eth1"), 0));
    assert_ne!(name, host_veth_name(&network, &key("c1", "eth0"), 1));
}

#[test]
fn a_shaper_is_named_after_its_host_end_and_fits() {
    let host = host_veth_name(&"mynet".parse().unwrap(), &key("c1", "eth0"), 0);
    let shaper = shaper_name(&host);
    assert_eq!(shaper.as_str()[3..], host.as_str()[3..]);
    assert!(shaper < host, "a plan makes the shaper first: {shaper} {host}");
    for odd in ["e", "abcdefghijklmno", "aßßßßßßß"] {
        assert!(shaper_name(&odd.parse().unwrap()).as_str().parse::<IfName>().is_ok(), "{odd}");
    }
}

#[test]
fn a_long_container_id_is_recorded_by_its_hash_and_recording_twice_changes_nothing() {
    let long = key(&"a".repeat(300), "eth0");
    let recorded = long.recorded();
    assert_eq!(recorded.container.as_str().len(), 64);
    assert_eq!(recorded, recorded.recorded());
    let network: NetworkName = "n".parse().unwrap();
    assert_eq!(host_veth_name(&network, &long, 0), host_veth_name(&network, &recorded, 0));
}

proptest! {
    #[test]
    fn parsed_names_print_as_they_were_written(text in "[A-Za-z0-9][A-Za-z0-9_.-]{0,80}") {
        let id: ContainerId = text.parse().unwrap();
        prop_assert_eq!(id.to_string(), text);
    }
}
