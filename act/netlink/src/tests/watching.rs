//! Notifications.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use selvedge_datapath::announced::{Announced, Object};

use super::*;
use crate::{Event, Monitor, Notification};

/// Waits long enough on a busy machine for a notification that fits.
fn wait_for(monitor: &mut Monitor, wanted: impl Fn(&Event) -> bool) -> Option<Notification> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        while let Some(notification) = monitor.next_event().unwrap() {
            if wanted(&notification.event) {
                return Some(notification);
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        poll(&mut [PollFd::new(monitor, PollFlags::IN)], Some(&timeout)).unwrap();
    }
    None
}

fn is_route(route: &Route, went: bool) -> impl Fn(&Event) -> bool {
    let to = route.destination;
    move |event| match event {
        Event::Object(Announced { object: Object::Route { destination, .. }, gone, .. }) => {
            (*destination, *gone) == (to, went)
        }
        _ => false,
    }
}

#[test]
fn links_addresses_and_routes_are_told_when_they_come_and_when_they_go() {
    let Some(mut wire) = Wire::new() else { return };
    let mut monitor = Monitor::open_in(&wire.host_namespace).unwrap();
    assert_eq!(monitor.next_event().unwrap(), None);
    let (four, six) = (route("10.244.2.0/24", None, "slvtest"), route("fd00:2::/64", None, "slvtest"));
    wire.on_host(&[
        NetStep::CreateVeth(pair("slvtest", "eth0")),
        add("slvtest", address("10.7.0.1/24")),
        set("slvtest", LinkChange::Up),
        NetStep::ReplaceRoute(four.clone()),
        NetStep::ReplaceRoute(six.clone()),
    ]);
    let made = wait_for(
        &mut monitor,
        |event| matches!(event, Event::Link { name: device, gone: false, .. } if *device == name("slvtest")),
    );
    assert!(made.is_some());
    for route in [&four, &six] {
        let told = wait_for(&mut monitor, is_route(route, false)).unwrap();
        assert_eq!(told.sender, wire.host.port(), "our own change is told as ours");
    }
    wire.on_host(&[
        NetStep::DeleteRoute(four.clone()),
        NetStep::DeleteAddress { device: name("slvtest"), address: address("10.7.0.1/24") },
        NetStep::DeleteLink { name: name("slvtest") },
    ]);
    assert!(wait_for(&mut monitor, is_route(&four, true)).is_some());
    let gone = address("10.7.0.1/24");
    let address_gone =
        |event: &Event| matches!(event, Event::Address { address, gone: true, .. } if *address == gone);
    assert!(wait_for(&mut monitor, address_gone).is_some());
    let device = name("slvtest");
    let link_gone = |event: &Event| matches!(event, Event::Link { name, gone: true, .. } if *name == device);
    assert!(wait_for(&mut monitor, link_gone).is_some());
}

#[test]
fn notifications_that_were_lost_are_said_to_be() {
    let Some(mut wire) = Wire::new() else { return };
    let mut monitor = Monitor::open_in(&wire.host_namespace).unwrap();
    wire.on_host(&[NetStep::CreateVeth(pair("slvtest", "eth0")), set("slvtest", LinkChange::Up)]);
    let flood =
        |i: u32| NetStep::ReplaceRoute(route(&format!("10.{}.{}.0/24", i / 256, i % 256), None, "slvtest"));
    wire.on_host(&(0..8_000).map(flood).collect::<Vec<_>>());
    assert!(wait_for(&mut monitor, |event| *event == Event::Lost).is_some());
    wire.on_host(&[set("slvtest", LinkChange::Down)]);
    let still_heard = |event: &Event| matches!(event, Event::Link { .. });
    assert!(wait_for(&mut monitor, still_heard).is_some());
}
