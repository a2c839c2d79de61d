//! What `podman run` can ask for: addresses and hardware addresses, which it sends in CNI_ARGS or as capabilities.

use selvedge_tests::Echo;

use super::host::{Host, dual, must_answer, routed, tutorial};

#[test]
fn podmans_static_ip_is_given() {
    let Some(host) = Host::new(&[tutorial()]) else { return };
    let web = host.start("web", "--network mynet --ip 10.244.1.77");
    assert_eq!(web.addresses("eth0"), ["10.244.1.77/24"]);
    let said = host.attachment("web", "mynet");
    assert_eq!((&said["IPAddress"], &said["IPPrefixLen"]), (&"10.244.1.77".into(), &24.into()), "{said}");
    assert_eq!(said["Gateway"], "10.244.1.1");
    let client = host.start("client", "--network mynet");
    let _echo = Echo::serve(&web.space);
    must_answer(&client.space, &web.addresses("eth0"));
    host.remove_all();
}

#[test]
fn podmans_static_ip_is_refused_to_a_second_container_and_stays_the_firsts() {
    let Some(host) = Host::new(&[tutorial()]) else { return };
    let web = host.start("web", "--network mynet --ip 10.244.1.77");
    let _echo = Echo::serve(&web.space);
    let ran = host.podman("run --rm --network mynet --ip 10.244.1.77 localhost/box sleep 1000");
    assert!(ran.must_fail().contains("10.244.1.77"), "{ran:?}");
    must_answer(host.machine().node(), &web.addresses("eth0"));
    host.remove_all();
    host.start("again", "--network mynet --ip 10.244.1.77");
    host.remove_all();
}

#[test]
fn podmans_static_ip_outside_the_subnet_is_refused() {
    let Some(host) = Host::new(&[tutorial()]) else { return };
    let ran = host.podman("run --rm --network mynet --ip 10.99.0.7 localhost/box sleep 1000");
    assert!(ran.must_fail().contains("10.99.0.7"), "{ran:?}");
    host.must_be_clean();
}

#[test]
fn podmans_two_static_ips_are_given_one_in_each_family() {
    for (network, prefixes) in [(dual(), [24, 64]), (routed(), [32, 128])] {
        let name = network["name"].as_str().unwrap().to_owned();
        let Some(host) = Host::new(&[network]) else { return };
        let web = host.start("web", &format!("--network {name}:ip=10.88.1.77,ip=fd00:88:0:1::77"));
        let [v4, v6] = prefixes;
        assert_eq!(web.addresses("eth0"), [format!("10.88.1.77/{v4}"), format!("fd00:88:0:1::77/{v6}")]);
        let said = host.attachment("web", &name);
        assert_eq!(said["IPAddress"], "10.88.1.77", "{said}");
        assert_eq!(said["GlobalIPv6Address"], "fd00:88:0:1::77", "{said}");
        let client = host.start("client", &format!("--network {name}"));
        let _echo = Echo::serve(&web.space);
        must_answer(&client.space, &web.addresses("eth0"));
        host.remove_all();
    }
}

#[test]
fn podmans_one_static_ip_of_two_families_leaves_the_other_to_the_pool() {
    let Some(host) = Host::new(&[dual()]) else { return };
    let web = host.start("web", "--network dual --ip6 fd00:88:0:1::77");
    assert_eq!(web.addresses("eth0"), ["10.88.1.2/24", "fd00:88:0:1::77/64"]);
    let api = host.start("api", "--network dual --ip 10.88.1.99");
    assert_eq!(api.addresses("eth0"), ["10.88.1.99/24", "fd00:88:0:1::78/64"]);
    host.remove_all();
}

#[test]
fn podmans_mac_is_the_interfaces_own() {
    for (name, network) in [("dual", dual()), ("routed", routed())] {
        let Some(host) = Host::new(&[network]) else { return };
        let web = host.start("web", &format!("--network {name} --mac-address 92:d0:c6:0a:29:33"));
        assert_eq!(web.mac("eth0"), "92:d0:c6:0a:29:33");
        assert_eq!(host.attachment("web", name)["MacAddress"], "92:d0:c6:0a:29:33");
        let client =
            host.start("client", &format!("--network {name}:mac=92:d0:c6:0a:29:34,interface_name=net7"));
        assert_eq!(client.mac("net7"), "92:d0:c6:0a:29:34");
        let _echo = Echo::serve(&web.space);
        must_answer(&client.space, &web.addresses("eth0"));
        host.remove_all();
    }
}

#[test]
fn what_podman_says_of_a_container_is_what_its_interface_has() {
    let Some(host) = Host::new(&[routed()]) else { return };
    let web = host.start("web", "--network routed");
    let said = host.attachment("web", "routed");
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    let addresses = [
        format!("{}/{}", text("IPAddress"), said["IPPrefixLen"]),
        format!("{}/{}", text("GlobalIPv6Address"), said["GlobalIPv6PrefixLen"]),
    ];
    assert_eq!(web.addresses("eth0"), addresses);
    assert_eq!(web.mac("eth0"), text("MacAddress"));
    host.remove_all();
}
