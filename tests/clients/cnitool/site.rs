//! A node with a host outside, and packets between all of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selvedge_netns::Namespace;
use selvedge_tests::{client, skipped};

use super::{Cnitool, Container, Suite};
use crate::ip;

/// The node's addresses outside.
pub(crate) const NODE: [&str; 2] = ["172.30.0.11", "fd00:30::11"];

/// How long a packet may be on its way, with all its repetitions.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder of a suite's reference plugins. `None` where they can't be had, which has been said.
pub(crate) fn reference(suite: Suite) -> Option<PathBuf> {
    let (folder, reason) = match suite {
        Suite::Bookworm => {
            (Some(PathBuf::from("/usr/lib/cni")), "the reference CNI plugins are not installed")
        }
        Suite::Sid => (client("reference/usr/lib/cni"), "the newest reference plugins could not be unpacked"),
    };
    let folder = folder.filter(|folder| folder.join("portmap").is_file());
    if folder.is_none() {
        skipped(reason);
    }
    folder
}

/// cnitool of a suite with the reference plugins of the same, on a node that leads outside.
pub(crate) fn node(suite: Suite) -> Option<(Cnitool, Container)> {
    let folder: &Path = &reference(suite)?;
    let tool = Cnitool::of(suite)?.looking_in(folder);
    let outside = tool.container("outside");
    let path = outside.path().display();
    ip::must(tool.node(), &format!("ip link add eth0 type veth peer name eth0 netns {path}"));
    ip::must(tool.node(), "ip link set lo up");
    let hosts = [(tool.node(), NODE), (outside.namespace(), ["172.30.0.1", "fd00:30::1"])];
    for (place, [v4, v6]) in hosts {
        ip::must(place, &format!("ip address add {v4}/24 dev eth0"));
        ip::must(place, &format!("ip address add {v6}/64 dev eth0 nodad"));
        ip::must(place, "ip link set eth0 up");
    }
    ip::must(tool.node(), "ip route add default via 172.30.0.1");
    ip::must(tool.node(), "ip route add default via fd00:30::1");
    Some((tool, outside))
}

/// Switches br_netfilter on or off on a node, where the kernel has it.
pub(crate) fn set_bridge_netfilter(tool: &Cnitool, on: bool) {
    let set = || {
        for key in ["iptables", "ip6tables"] {
            let file = format!("/proc/sys/net/bridge/bridge-nf-call-{key}");
            if Path::new(&file).exists() {
                fs::write(file, if on { "1" } else { "0" }).unwrap();
            }
        }
    };
    tool.node().run(set).unwrap();
}

/// Connects and has a byte sent back by an echo.
pub(crate) fn reach(from: &Namespace, to: &str) -> std::io::Result<()> {
    let mut stream = connect(from, to)?;
    stream.write_all(&[42])?;
    stream.read_exact(&mut [0])
}

/// How long it takes to have so many bytes sent back by an echo.
pub(crate) fn time_there_and_back(from: &Namespace, to: &str, bytes: usize) -> Duration {
    let mut stream = connect(from, to).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let begun = Instant::now();
    let sender = std::thread::spawn(move || {
        sending.write_all(&vec![7; bytes]).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.set_read_timeout(Some(PATIENCE * 4)).unwrap();
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.len(), bytes);
    begun.elapsed()
}

fn connect(from: &Namespace, to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().map_err(std::io::Error::other)?;
    let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).map_err(std::io::Error::other)??;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
