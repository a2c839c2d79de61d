//! Cables between machines.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command};

use selvedge_netns::Namespace;

use crate::kubernetes::folder::run;

/// A cable from one namespace to another, the first end up already.
///
/// # Panics
/// If it can't be laid.
pub fn cable((near, name): (&Namespace, &str), (far, far_name): (&Namespace, &str)) {
    // Both ends are in the way between the two for a moment, under names of their own.
    let path = format!("/proc/{}/fd/{}", process::id(), far.as_fd().as_raw_fd());
    let line = ["link", "add", name, "type", "veth", "peer", "name", far_name, "netns"];
    near.run(|| run(Command::new("ip").args(line).arg(path))).unwrap();
    near.run(|| run(Command::new("ip").args(["link", "set", name, "up"]))).unwrap();
}
