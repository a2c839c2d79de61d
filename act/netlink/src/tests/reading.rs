//! What the kernel never sends, and what it sends of other people's routes.

use std::collections::BTreeSet;
use std::process::Command;

use proptest::prelude::*;
use selvedge_wire as wire;

use super::*;
use crate::{record, request, shaping};

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for message in wire::messages(&bytes) {
            drop(message.verdict());
        }
        drop((record::link(&bytes), record::address(&bytes), record::route(&bytes, request::MAIN), record::rule(&bytes)));
        drop(record::found(&bytes));
        let _ = (shaping::bucket(&bytes), shaping::redirection(&bytes));
    }

    #[test]
    fn a_cut_message_is_read_or_left_out(cut in 0usize..64) {
        let whole = route_message();
        let length = whole.len().min(cut);
        drop(record::route(&whole[..length], request::MAIN));
        prop_assert!(record::route(&whole, request::MAIN).is_some());
    }
}

/// `10.9.0.0/24 dev 7 proto 83`, in the main table, as the kernel writes it.
fn route_message() -> Vec<u8> {
    let header = [2u8, 24, 0, 0, 254, 83, 253, 1, 0, 0, 0, 0];
    let attribute =
        |kind: u16, value: [u8; 4]| [&8u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat();
    let device = attribute(libc::RTA_OIF, 7u32.to_ne_bytes());
    [&header[..], &attribute(libc::RTA_DST, [10, 9, 0, 0]), &device].concat()
}

#[test]
fn foreign_routes_of_every_shape_are_observed_or_passed_over() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("slvtest", "eth0")), add("slvtest", address("10.7.0.1/24"))]);
    wire.in_pod(&[set("eth0", LinkChange::Up)]);
    wire.on_host(&[set("slvtest", LinkChange::Up)]);
    let commands = [
        "route add 10.1.0.0/24 proto static nexthop via 10.7.0.2 nexthop via 10.7.0.3",
        "route add 10.2.0.0/24 proto static via 10.7.0.4 metric 100 mtu lock 1300",
        "route add blackhole 10.3.0.0/24",
        "route add 10.4.0.0/24 dev slvtest table 100",
        "route add 10.5.0.0/24 proto static via inet6 fe80::9 dev slvtest",
        "rule add from 10.6.0.0/24 table 100",
    ];
    for command in commands {
        let run = wire.host_namespace.run(|| Command::new("ip").args(command.split(' ')).output()).unwrap();
        match run {
            Ok(output) => assert!(output.status.success(), "{command}: {output:?}"),
            Err(error) => {
                println!("skipped: ip(8): {error}");
                assert!(std::env::var_os("CI").is_none(), "skipped under CI: ip(8): {error}");
                return;
            }
        }
    }
    let foreign = |destination, via| Route {
        protocol: RouteProtocol(libc::RTPROT_STATIC),
        ..route(destination, Some(via), "slvtest")
    };
    let expected = BTreeSet::from([
        foreign("10.1.0.0/24", "10.7.0.2"),
        foreign("10.1.0.0/24", "10.7.0.3"),
        Route { mtu: Some(1300), ..foreign("10.2.0.0/24", "10.7.0.4") },
        foreign("10.5.0.0/24", "fe80::9"),
    ]);
    let routes = wire.host.observe_routes_of(&name("slvtest")).unwrap().into_iter();
    let routes: BTreeSet<Route> = routes.filter(|route| route.via.is_some()).collect();
    assert_eq!(routes, expected);
    let destinations: BTreeSet<String> =
        wire.host.observe().unwrap().routes.iter().map(|route| route.destination.to_string()).collect();
    assert!(
        !destinations.contains("10.3.0.0/24") && !destinations.contains("10.4.0.0/24"),
        "{destinations:?}"
    );
}
