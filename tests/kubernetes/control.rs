//! The control plane: etcd, the API server, the controllers and the scheduler, on a machine that is also the nodes'
//! switch and their router to the internet.

use std::path::Path;
use std::process::Command;

use selvedge_netns::Namespace;
use selvedge_tests::kubernetes::{
    Authority, Daemon, Folder, Plane, Programs, cable, command, line, run, say,
};
use selvedge_tests::{Machine, Mirror, program};
use serde_json::Value;

/// Its address on the nodes' segment.
pub(crate) const ADDRESS: &str = "172.30.0.1";

/// Somebody beyond the router, who knows a way to the nodes and none to the pods.
pub(crate) const INTERNET: &str = "203.0.113.80";

/// The port on which the internet and the nodes say who they are and who asked.
pub(crate) const WHO: u16 = 7007;

#[derive(Debug)]
pub(crate) struct Control {
    plane: Plane,
    others: Vec<Daemon>,
    _internet: (Namespace, Mirror),
}

impl Control {
    /// Starts it, `None` if this user may not; ready when it answers.
    pub(crate) fn start(folder: &Folder, programs: &Programs) -> Option<Self> {
        let machine = Machine::boot_whole("control", &folder.make("control"))?;
        let internet = wire(&machine);
        let plane = Plane::start((machine, ADDRESS), folder, programs);
        say("the API server is ready");
        Some(Self { plane, others: Vec::new(), _internet: internet })
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.plane.machine
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.plane.authority
    }

    /// How the API server is reached.
    pub(crate) fn server(&self) -> &str {
        &self.plane.server
    }

    /// Starts what acts on the API's objects.
    pub(crate) fn start_controllers(&mut self, folder: &Folder, programs: &Programs) {
        let pki = self.authority();
        let user = |name: &str| {
            pki.kubeconfig(name, &format!("/CN=system:{name}"), self.server()).display().to_string()
        };
        let (controllers, scheduler) = (user("kube-controller-manager"), user("kube-scheduler"));
        let (ca, tokens) = (pki.certificate(), pki.tokens());
        let manager = format!(
            "--kubeconfig {controllers} --authentication-kubeconfig {controllers} --authorization-kubeconfig \
             {controllers} --root-ca-file {ca} --service-account-private-key-file {tokens} --allocate-node-cidrs \
             --cluster-cidr 10.244.0.0/16 --service-cluster-ip-range 10.96.0.0/16 --leader-elect=false \
             --use-service-account-credentials --node-monitor-grace-period 20s",
            ca = ca.display(),
            tokens = tokens.display(),
        );
        let scheduler = format!(
            "--kubeconfig {scheduler} --authentication-kubeconfig {scheduler} --authorization-kubeconfig {scheduler} \
             --leader-elect=false"
        );
        for (name, arguments) in [("kube-controller-manager", manager), ("kube-scheduler", scheduler)] {
            let line = line(&programs.kubernetes(name), &arguments);
            self.others.push(Daemon::start((self.machine(), name), (folder, programs), &line));
        }
    }

    /// The way to the nodes' pods, which the API server wants as it speaks with pods itself.
    pub(crate) fn route_to_pods(&self, nodes: &[&Value]) {
        for node in nodes {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let address = &node["status"]["addresses"][0]["address"];
            let line = ["route", "replace", &text(&node["spec"]["podCIDR"]), "via", &text(address)];
            run(self.machine().command("ip").args(line));
        }
    }

    /// kubectl as the cluster's administrator types it.
    pub(crate) fn kubectl(&self, programs: &Programs) -> Command {
        self.plane.kubectl(programs)
    }

    /// selvedgectl as the administrator types it.
    pub(crate) fn selvedgectl(&self, programs: &Programs) -> Command {
        self.administer(programs, &program("selvedgectl"))
    }

    /// A program that finds the administrator's kubeconfig in its environment, and kubectl in its search path.
    pub(crate) fn administer(&self, programs: &Programs, program: &Path) -> Command {
        let mut administer = command(self.machine(), programs, program);
        let kubectl = programs.kubernetes("");
        administer.env("PATH", format!("{}:{}", kubectl.display(), programs.path()));
        administer.env("KUBECONFIG", self.plane.admin());
        administer
    }

    /// Kills the API server.
    pub(crate) fn stop_api(&mut self) {
        self.plane.stop_api();
    }

    /// Starts it again; ready when it answers.
    pub(crate) fn start_api(&mut self, folder: &Folder, programs: &Programs) {
        self.others.iter_mut().for_each(Daemon::must_run);
        self.plane.start_api(folder, programs);
        say("the API server is ready");
    }
}

/// The nodes' switch, and a router with the internet behind it.
fn wire(machine: &Machine) -> (Namespace, Mirror) {
    let ip = |line: &str| run(machine.command("ip").args(line.split(' ')));
    ip("link add br0 type bridge");
    ip("addr add 172.30.0.1/24 dev br0");
    ip("link set br0 up");
    // A kubelet asks whether it is in a cloud, and would wait for an answer.
    ip("route add unreachable 169.254.0.0/16");
    run(machine.command("sh").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]));
    let internet = Namespace::create().unwrap();
    cable((machine.node(), "internet"), (&internet, "eth0"));
    ip("addr add 203.0.113.1/24 dev internet");
    ip("link set internet up");
    internet
        .run(|| {
            for line in [
                "link set lo up",
                "addr add 203.0.113.80/24 dev eth0",
                "link set eth0 up",
                "route add 172.30.0.0/24 via 203.0.113.1",
            ] {
                run(Command::new("ip").args(line.split(' ')));
            }
        })
        .unwrap();
    let mirror = Mirror::serve(&internet, WHO, "internet");
    (internet, mirror)
}
