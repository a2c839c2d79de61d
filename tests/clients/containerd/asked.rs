//! What a pod may ask for by way of containerd: ports and bandwidth.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::time::Duration;

use selvedge_netns::Namespace;
use selvedge_tests::{Echo, Traces};
use serde_json::json;

use super::cri::{Config, PortMapping};
use super::daemon::{Daemon, releases, routed};
use super::recorder::{self, Recorded};
use crate::ip::must;

/// The namespace of the pod that a call was for.
fn pod(daemon: &Daemon, call: &Recorded) -> Namespace {
    // A link of the machine's, followed from outside, would lead outside.
    let path = call.variable("CNI_NETNS").replacen("/var/run/", "/run/", 1);
    Namespace::open(&daemon.machine.path(&path)).unwrap()
}

/// Makes a link between the machine, which is 172.30.0.11 there, and a namespace.
fn connect(daemon: &Daemon, outside: &Namespace) {
    let (node, there) =
        (daemon.machine.node(), format!("/proc/{}/fd/{}", process::id(), outside.as_fd().as_raw_fd()));
    must(node, &format!("ip link add up0 type veth peer name eth0 netns {there}"));
    for (place, device, address) in [(node, "up0", "172.30.0.11/24"), (outside, "eth0", "172.30.0.1/24")] {
        must(place, &format!("ip address add {address} dev {device}"));
        must(place, &format!("ip link set {device} up"));
    }
}

#[test]
fn a_pods_port_is_published_as_containerd_spells_it() {
    for release in releases() {
        let conflist = routed(&json!({"capabilities": {"portMappings": true}}));
        let Some(mut daemon) = Daemon::start(release, &conflist) else { return };
        let outside = Namespace::create().unwrap();
        connect(&daemon, &outside);
        daemon.remember();
        let cri = daemon.cri();
        let tcp = PortMapping { protocol: 0, container_port: 7, host_port: 8080, host_ip: String::new() };
        let ports = vec![tcp.clone(), PortMapping { protocol: 1, ..tcp }];
        let id = cri.run(Config { port_mappings: ports, ..Config::of("web-0") }).unwrap();
        let add = recorder::calls(&daemon.machine, "ADD").pop().unwrap();
        let asked = &add.stdin["runtimeConfig"]["portMappings"];
        let published =
            |protocol| json!({"HostPort": 8080, "ContainerPort": 7, "Protocol": protocol, "HostIP": ""});
        assert_eq!(*asked, json!([published("tcp"), published("udp")]));
        let echo = Echo::serve(&pod(&daemon, &add));
        for place in [&outside, daemon.machine.node()] {
            let answered = place.run(|| ask("172.30.0.11:8080".parse().unwrap())).unwrap();
            assert_eq!(answered.unwrap(), 42);
        }
        drop(echo);
        cri.end_all(&[id]);
        daemon.nothing_is_left();
    }
}

/// Sends a byte and returns the one that comes back.
fn ask(to: SocketAddr) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[42])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

#[test]
fn a_pods_bandwidth_is_limited_as_its_annotations_say() {
    for release in releases() {
        let conflist = routed(&json!({"capabilities": {"bandwidth": true}}));
        let Some(daemon) = Daemon::start(release, &conflist) else { return };
        let cri = daemon.cri();
        let limit = |way: &str, rate: &str| (format!("kubernetes.io/{way}-bandwidth"), rate.to_owned());
        let annotations = HashMap::from([limit("ingress", "10M"), limit("egress", "20M")]);
        let id = cri.run(Config { annotations, ..Config::of("web-0") }).unwrap();
        let add = recorder::calls(&daemon.machine, "ADD").pop().unwrap();
        let asked = &add.stdin["runtimeConfig"]["bandwidth"];
        assert_eq!(asked["IngressRate"], 10_000_000, "{asked}");
        assert_eq!(asked["EgressRate"], 20_000_000, "{asked}");
        let traces = Traces::on(daemon.machine.node(), &daemon.run_dir());
        for rate in ["10Mbit", "20Mbit"] {
            assert_eq!(traces.with(rate).len(), 1, "{traces:?}");
        }
        cri.end_all(&[id]);
        daemon.nothing_is_left();
    }
}
