//! containerd, as `ctr` and as the kubelet make it attach pods.
//!
//! Each scenario has a machine of its own and is played with the releases of containerd that Debian has: 1.6, which
//! knows the protocol up to 1.0.0, and 2.1, which also asks for STATUS. It ends with nothing left on the machine.

mod burst;
mod cri;
mod ctr;
mod daemon;
mod failing;
mod killed;
mod recorder;
mod status;
mod swap;
mod told;

use std::io::{self, Write};

/// Prints a measurement, which the test harness would keep to itself.
fn report(line: &str) {
    io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
