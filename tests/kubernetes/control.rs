//! The control plane: etcd, the API server, the controllers and the scheduler, on a machine that is also the nodes'
//! switch and their router to the internet.

use std::path::PathBuf;

use selvedge_netns::Namespace;
use selvedge_tests::{Machine, Mirror, program};

use crate::certificates::{Authority, Identity};
use crate::daemon::{Daemon, command, line};
use crate::folder::{Folder, Programs, run, say};
use crate::wait::until;

/// Its address on the nodes' segment.
pub(crate) const ADDRESS: &str = "172.30.0.1";

/// Somebody beyond the router, who knows a way to the nodes and none to the pods.
pub(crate) const INTERNET: &str = "203.0.113.80";

/// The port on which the internet and the nodes say who they are and who asked.
pub(crate) const WHO: u16 = 7007;

/// How the API server is reached.
pub(crate) const SERVER: &str = "https://172.30.0.1:6443";

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) machine: Machine,
    pub(crate) authority: Authority,
    api: Option<Daemon>,
    api_line: Vec<String>,
    kubectl: PathBuf,
    admin: PathBuf,
    others: Vec<Daemon>,
    _internet: (Namespace, Mirror),
}

impl Control {
    /// Starts it, `None` if this user may not; ready when it answers.
    pub(crate) fn start(folder: &Folder, programs: &Programs) -> Option<Self> {
        let machine = Machine::boot_whole("control", &folder.make("control"))?;
        let internet = wire(&machine);
        let authority = Authority::found(folder.join("pki"));
        let etcd = line(
            &programs.debian("usr/bin/etcd"),
            "--data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls \
             http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --logger zap",
        );
        let etcd = Daemon::start((&machine, "etcd"), (folder, programs), &etcd);
        let api_line = api_line(&authority, programs);
        let api = Daemon::start((&machine, "kube-apiserver"), (folder, programs), &api_line);
        let admin = authority.kubeconfig("admin", "/O=system:masters/CN=admin", SERVER);
        let others = vec![etcd];
        let kubectl = programs.kubernetes("kubectl");
        let mut control = Self {
            machine,
            authority,
            api: Some(api),
            api_line,
            kubectl,
            admin,
            others,
            _internet: internet,
        };
        control.ready(programs);
        Some(control)
    }

    /// Starts what acts on the API's objects.
    pub(crate) fn start_controllers(&mut self, folder: &Folder, programs: &Programs) {
        let pki = &self.authority;
        let user =
            |name: &str| pki.kubeconfig(name, &format!("/CN=system:{name}"), SERVER).display().to_string();
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
            self.others.push(Daemon::start((&self.machine, name), (folder, programs), &line));
        }
    }

    /// kubectl as the cluster's administrator types it.
    pub(crate) fn kubectl(&self, programs: &Programs) -> std::process::Command {
        let mut kubectl = command(&self.machine, programs, &self.kubectl);
        kubectl.arg("--kubeconfig").arg(&self.admin);
        kubectl
    }

    /// selvedgectl as the administrator types it, with kubectl in the search path.
    pub(crate) fn selvedgectl(&self, programs: &Programs) -> std::process::Command {
        let mut selvedgectl = command(&self.machine, programs, &program("selvedgectl"));
        let kubectl = self.kubectl.parent().unwrap_or(&self.kubectl).display();
        selvedgectl.env("PATH", format!("{kubectl}:{}", programs.path())).env("KUBECONFIG", &self.admin);
        selvedgectl
    }

    /// Kills the API server.
    pub(crate) fn stop_api(&mut self) {
        let api = self.api.take().expect("the API server runs");
        api.kill(&self.machine);
    }

    /// Starts it again; ready when it answers.
    pub(crate) fn start_api(&mut self, folder: &Folder, programs: &Programs) {
        let daemon = Daemon::start((&self.machine, "kube-apiserver"), (folder, programs), &self.api_line);
        self.api = Some(daemon);
        self.ready(programs);
    }

    fn ready(&mut self, programs: &Programs) {
        until(90, "the API server is ready", || {
            self.api.iter_mut().chain(&mut self.others).for_each(Daemon::must_run);
            let mut kubectl = self.kubectl(programs);
            let asked = kubectl.args(["get", "--raw", "/readyz"]).output().unwrap();
            if asked.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&asked.stderr).into_owned())
            }
        });
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
    crate::node::cable((machine.node(), "internet"), (&internet, "eth0"));
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
                run(std::process::Command::new("ip").args(line.split(' ')));
            }
        })
        .unwrap();
    let mirror = Mirror::serve(&internet, WHO, "internet");
    (internet, mirror)
}

fn api_line(authority: &Authority, programs: &Programs) -> Vec<String> {
    let names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:10.96.0.1,\
                 IP:172.30.0.1,IP:127.0.0.1";
    let Identity { certificate, key } = authority.issue("apiserver", "/CN=kube-apiserver", names);
    let kubelets = authority.issue("kubelets", "/O=system:masters/CN=kube-apiserver", "");
    let tokens = authority.signer();
    let arguments = format!(
        "--etcd-servers http://127.0.0.1:2379 --advertise-address {ADDRESS} --secure-port 6443 --client-ca-file {ca} \
         --tls-cert-file {certificate} --tls-private-key-file {key} --kubelet-client-certificate {kubelet} \
         --kubelet-client-key {kubelet_key} --service-account-key-file {tokens} --service-account-signing-key-file \
         {tokens} --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range \
         10.96.0.0/16 --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
         --enable-aggregator-routing --kubelet-preferred-address-types InternalIP",
        ca = authority.certificate().display(),
        certificate = certificate.display(),
        key = key.display(),
        kubelet = kubelets.certificate.display(),
        kubelet_key = kubelets.key.display(),
        tokens = tokens.display(),
    );
    line(&programs.kubernetes("kube-apiserver"), &arguments)
}
