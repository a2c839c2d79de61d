//! A machine with podman, our plugin as the only one, a link to somewhere outside, and one image.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use selvedge_datapath::state::Address;
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;
use selvedge_tests::{Machine, Ran, Traces, client, knock, program, skipped, within};
use serde_json::{Value, json};

/// The machine's own addresses on the link to the outside.
pub(super) const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Who is beyond that link.
pub(super) const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Busybox and its applets as an image: no registry is asked for anything.
const IMAGE: &str = "set -e
    mkdir -p /run/image/bin && cd /run/image && cp $1 bin/busybox
    for applet in sh sleep ping ip nc httpd wget cat; do ln -s busybox bin/$applet; done
    tar -c . | podman import --quiet - localhost/box && rm -r /run/image";

/// The machine. What is left on it must be what was there when it was made.
pub(super) struct Host {
    machine: Machine,
    outside: Namespace,
    before: Option<(Traces, BTreeSet<String>)>,
}

/// A container that runs.
pub(super) struct Container {
    /// Its name.
    pub(super) name: String,
    /// Its first process, as the machine counts.
    pub(super) process: u32,
    /// Its network namespace.
    pub(super) space: Namespace,
}

impl Host {
    /// A host with these networks, each a conflist. `None`, which has been said, where there is no podman.
    pub(super) fn new(conflists: &[Value]) -> Option<Self> {
        let unpacked = client("podman").filter(|folder| folder.join("usr/bin/podman").is_file());
        let Some(unpacked) = unpacked else {
            skipped("podman could not be unpacked");
            return None;
        };
        let machine = Machine::boot()?;
        machine.find_libraries(&unpacked);
        let outside = connect(machine.node());
        configure(&machine, &unpacked);
        machine.install(&program("selvedge"), "/opt/cni/bin");
        for (conflist, number) in conflists.iter().zip(10..) {
            machine.write(&format!("/etc/cni/net.d/{number}-ours.conflist"), conflist.to_string());
        }
        let mut host = Self { machine, outside, before: None };
        let busybox = unpacked.join("bin/busybox").display().to_string();
        host.run("sh", &["-c", IMAGE, "image", &busybox]).must_succeed();
        host.before = Some(host.left());
        Some(host)
    }

    /// The machine itself.
    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The namespace beyond the machine's link.
    pub(super) fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// Runs a program with podman's environment.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(program).args(arguments))
    }

    /// Runs podman; its arguments are the line's words.
    pub(super) fn podman(&self, line: &str) -> Ran {
        Ran::of(self.command("podman").args(line.split_whitespace()))
    }

    /// A command with podman's environment: nothing of the test's.
    pub(super) fn command(&self, program: &str) -> std::process::Command {
        let unpacked = client("podman/usr/bin").unwrap();
        let mut command = self.machine.command("timeout");
        command
            .args(["--signal=KILL", "60", program])
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", unpacked.display()))
            .env("HOME", "/root");
        command
    }

    /// Starts a container that sleeps, with these flags of `podman run`.
    pub(super) fn start(&self, name: &str, flags: &str) -> Container {
        self.podman(&format!("run --detach --name {name} {flags} localhost/box sleep 1000")).must_succeed();
        self.container(name)
    }

    /// A container that runs.
    pub(super) fn container(&self, name: &str) -> Container {
        let id = self.podman(&format!("inspect --format {{{{.State.Pid}}}} {name}"));
        let process = id.must_succeed().parse().unwrap();
        Container { name: name.to_owned(), process, space: self.machine.network_of(process) }
    }

    /// What podman says of a container's attachment to a network.
    pub(super) fn attachment(&self, container: &str, network: &str) -> Value {
        let said = self.podman(&format!("inspect {container}"));
        let said: Value = serde_json::from_str(said.must_succeed()).unwrap();
        said[0]["NetworkSettings"]["Networks"][network].clone()
    }

    /// Pings an address from a container, with the container's own program.
    pub(super) fn ping(&self, from: &Container, to: &str) {
        // The first packet may wait for a neighbour longer than a busy machine gives it.
        self.podman(&format!("exec {} ping -c 1 -w 5 {to}", from.name)).must_succeed();
    }

    /// Ends a scenario: removes all containers, after which everything must be as it was.
    pub(super) fn remove_all(&self) {
        self.podman("rm --force --time 0 --all").must_succeed();
        self.must_be_clean();
    }

    /// Fails unless everything is as it was before the first container.
    pub(super) fn must_be_clean(&self) {
        let before = self.before.as_ref().unwrap();
        within(20.0, "everything is as it was", || {
            let now = self.left();
            if now.1 == before.1 { Ok(()) } else { Err(format!("{:?}", now.1)) }
        });
        before.0.must_be_back_on(self.machine.node(), &self.machine.path("/run/selvedge"));
    }

    /// The network's traces, the files that libcni keeps of it, and the containers' namespaces.
    fn left(&self) -> (Traces, BTreeSet<String>) {
        let traces = Traces::on(self.machine.node(), &self.machine.path("/run/selvedge"));
        let folders = ["/var/lib/cni", "/run/netns"];
        let files = folders.iter().flat_map(|folder| files(&self.machine.path(folder)));
        (traces, files.collect())
    }
}

impl Container {
    /// Its addresses on an interface, without the kernel's own link-local one, and with their prefixes.
    pub(super) fn addresses(&self, interface: &str) -> Vec<String> {
        let observed = RouteSocket::open_in(&self.space).unwrap().observe().unwrap();
        let addresses = observed.links[&interface.parse().unwrap()].addresses.iter();
        let global = addresses.filter(|address| !address.net.to_string().starts_with("fe80:"));
        global.map(|address| address.net.to_string()).collect()
    }

    /// Its first address on an interface.
    pub(super) fn address(&self, interface: &str) -> String {
        let first = self.addresses(interface).swap_remove(0);
        first.split('/').next().unwrap().to_owned()
    }

    /// The hardware address of an interface.
    pub(super) fn mac(&self, interface: &str) -> String {
        let observed = RouteSocket::open_in(&self.space).unwrap().observe().unwrap();
        observed.links[&interface.parse().unwrap()].mac.unwrap().to_string()
    }
}

/// A conflist with ours as its only plugin: these keys, and what podman may ask for.
pub(super) fn conflist(name: &str, plugin: Value) -> Value {
    let mut plugin = plugin;
    plugin["type"] = json!("selvedge");
    plugin["capabilities"] = json!({"portMappings": true, "ips": true, "mac": true});
    json!({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})
}

/// As the tutorials have it, for podman: bridged, IPv4.
pub(super) fn tutorial() -> Value {
    conflist("mynet", json!({"network": "10.244.0.0/16", "subnet": "10.244.1.0/24"}))
}

/// Two families, bridged.
pub(super) fn dual() -> Value {
    conflist("dual", both_families())
}

/// Two families, routed.
pub(super) fn routed() -> Value {
    let mut plugin = both_families();
    plugin["attach"] = json!("routed");
    plugin["nodeAddresses"] = json!(HOST);
    conflist("routed", plugin)
}

fn both_families() -> Value {
    json!({"network": ["10.88.0.0/16", "fd00:88::/48"], "bridge": "dual0",
        "ipam": {"ranges": [[{"subnet": "10.88.1.0/24"}], [{"subnet": "fd00:88:0:1::/64"}]]}})
}

/// Somebody answers on TCP port 7 at these addresses.
pub(super) fn must_answer(from: &Namespace, addresses: &[impl AsRef<str>]) {
    for address in addresses {
        let address: IpAddr = address.as_ref().split('/').next().unwrap().parse().unwrap();
        knock(from, address).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

/// The files below a folder, by their paths.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths =
        entries.map(|path| if path.is_dir() { files(&path) } else { vec![path.display().to_string()] });
    paths.flatten().collect()
}

/// podman's configuration: containers without cgroups, so that it is the same on every machine.
fn configure(machine: &Machine, unpacked: &Path) {
    let bin = unpacked.join("usr/bin").display().to_string();
    machine.write(
        "/etc/containers/containers.conf",
        format!(
            r#"
[containers]
cgroups = "disabled"
default_sysctls = ["net.ipv4.ping_group_range=0 0"]
log_driver = "k8s-file"
seccomp_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["{bin}/conmon"]
events_logger = "file"
init_path = "{bin}/catatonit"
runtime = "crun"
[engine.runtimes]
crun = ["{bin}/crun"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
"#
        ),
    );
    machine.write("/etc/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    machine.write(
        "/etc/containers/storage.conf",
        "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers\"\ngraphroot = \"/var/lib/containers\"\n",
    );
}

/// A link from the machine to the outside, with addresses of both families at both ends.
fn connect(host: &Namespace) -> Namespace {
    let outside = Namespace::create().unwrap();
    let (here, there) = ("eth0".parse().unwrap(), "eth0".parse().unwrap());
    let pair = VethPair {
        host: here,
        host_mac: MacAddr::of_device("here"),
        alias: String::new(),
        master: None,
        pod: there,
        pod_mac: MacAddr::of_device("there"),
        mtu: Mtu::ETHERNET,
    };
    let mut steps = vec![NetStep::CreateVeth(pair)];
    steps.extend(up(HOST));
    RouteSocket::open_in(host).unwrap().apply_until_failure(&steps, Some(outside.as_fd())).unwrap();
    let steps = up(OUTSIDE);
    RouteSocket::open_in(&outside).unwrap().apply_until_failure(&steps, None).unwrap();
    outside
}

fn up([v4, v6]: [&str; 2]) -> Vec<NetStep> {
    let device = "eth0".parse().unwrap();
    let address = |net: String| NetStep::AddAddress {
        device: "eth0".parse().unwrap(),
        address: Address::global(net.parse().unwrap()),
    };
    vec![
        NetStep::SetLink { name: device, change: LinkChange::Up },
        address(format!("{v4}/24")),
        address(format!("{v6}/64")),
    ]
}
