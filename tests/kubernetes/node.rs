//! A node: containerd, a kubelet and kube-proxy on a machine that takes itself for a whole one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use selvedge_tests::kubernetes::{Daemon, Folder, Programs, cable, command, line, run, until};
use selvedge_tests::{Machine, Mirror};
use serde_json::json;

use crate::control::{ADDRESS, Control, WHO};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// On the nodes' segment.
    pub(crate) address: String,
    pub(crate) machine: Machine,
    daemons: Vec<Daemon>,
    _mirror: Mirror,
}

impl Node {
    /// Boots the node of a number from its disk; it has registered itself some seconds later, and has no kube-proxy yet.
    pub(crate) fn boot(control: &Control, (folder, programs): (&Folder, &Programs), number: u8) -> Self {
        let name = format!("node-{}", char::from(b'a' + number));
        let address = format!("172.30.0.{}", 11 + number);
        let disk = folder.make(&name);
        let machine = Machine::boot_whole(&name, &disk).expect("the control plane could be booted");
        wire(control, &machine, &name, &address);
        let mirror = Mirror::serve(machine.node(), WHO, &name);
        let mut node = Self { name, address, machine, daemons: Vec::new(), _mirror: mirror };
        node.start_runtime(folder, programs);
        node.start_kubelet(control, folder, programs);
        node
    }

    /// A program of the node's.
    pub(crate) fn command(&self, programs: &Programs, program: &str) -> Command {
        command(&self.machine, programs, program.as_ref())
    }

    /// Panics if one of its programs has ended.
    pub(crate) fn must_run(&mut self) {
        self.daemons.iter_mut().for_each(Daemon::must_run);
    }

    /// The routes that are ours.
    pub(crate) fn routes(&self) -> String {
        run(self.machine.command("ip").args(["route", "show", "proto", "83"]))
    }

    /// How many host ends of pods there are.
    pub(crate) fn host_ends(&self) -> usize {
        let links = run(self.machine.command("ip").args(["-oneline", "link"]));
        links.lines().filter(|link| link.contains(": slv")).count()
    }

    /// Imports an image archive.
    pub(crate) fn import(&self, programs: &Programs, archive: &PathBuf) {
        run(self.command(programs, "ctr").args(["-n", "k8s.io", "images", "import"]).arg(archive));
    }

    fn start_runtime(&mut self, folder: &Folder, programs: &Programs) {
        self.machine.write("/etc/containerd/config.toml", include_str!("containerd.toml"));
        self.machine.install("/usr/lib/cni/loopback".as_ref(), "/opt/cni/bin");
        let name = format!("{}-containerd", self.name);
        let containerd = line(&programs.debian("usr/bin/containerd"), "--config /etc/containerd/config.toml");
        self.daemons.push(Daemon::start((&self.machine, &name), (folder, programs), &containerd));
        until(60, "containerd answers", || {
            let mut ctr = self.command(programs, "ctr");
            let asked = ctr.arg("version").output().unwrap();
            if asked.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&asked.stderr).into_owned())
            }
        });
        let mut images: Vec<_> = fs::read_dir(folder.join("images")).unwrap().flatten().collect();
        images.retain(|entry| entry.path().extension().is_some_and(|ending| ending == "tar"));
        images.iter().for_each(|image| self.import(programs, &image.path()));
    }

    fn start_kubelet(&mut self, control: &Control, folder: &Folder, programs: &Programs) {
        let (name, address, pki) = (&self.name, &self.address, control.authority());
        let user = pki.kubeconfig(name, &format!("/O=system:nodes/CN=system:node:{name}"), control.server());
        let server =
            pki.issue(&format!("{name}-server"), &format!("/CN={name}"), &format!("DNS:{name},IP:{address}"));
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": false},
                "x509": {"clientCAFile": pki.certificate()}},
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": server.certificate, "tlsPrivateKeyFile": server.key,
            "cgroupDriver": "cgroupfs", "failSwapOn": false, "failCgroupV1": false, "maxPods": 60,
            "clusterDomain": "cluster.local", "clusterDNS": [ADDRESS],
            "oomScoreAdj": 0, "volumePluginDir": "/var/lib/kubelet/plugins-of-others",
            // A node is a share of this machine, whose disk may be fuller than a kubelet likes.
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "systemReserved": {"cpu": "100m", "memory": "100Mi"},
            "nodeStatusUpdateFrequency": "4s", "syncFrequency": "10s",
        });
        self.machine.write("/etc/kubernetes/kubelet.json", config.to_string());
        let kubelet = format!(
            "--config /etc/kubernetes/kubelet.json --kubeconfig {user} --hostname-override {name} --node-ip {address} \
             --container-runtime-endpoint unix:///run/containerd/containerd.sock {runtime}",
            user = user.display(),
            // Since then there are no other runtimes and no other plugins.
            runtime =
                if programs.minor() < 24 { "--container-runtime remote --network-plugin cni" } else { "" },
        );
        let name = format!("{name}-kubelet");
        let line = line(&programs.kubernetes("kubelet"), &kubelet);
        self.daemons.push(Daemon::start((&self.machine, &name), (folder, programs), &line));
    }

    /// Starts kube-proxy, which would wait for long if its node were not registered yet.
    pub(crate) fn start_proxy(&mut self, control: &Control, folder: &Folder, programs: &Programs) {
        let (name, pki) = (&self.name, control.authority());
        let user = pki.kubeconfig(&format!("{name}-proxy"), "/CN=system:kube-proxy", control.server());
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": user}, "hostnameOverride": name, "mode": "iptables",
            "clusterCIDR": "10.244.0.0/16", "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        });
        self.machine.write("/etc/kubernetes/kube-proxy.json", config.to_string());
        let name = format!("{name}-kube-proxy");
        let line = line(&programs.kubernetes("kube-proxy"), "--config /etc/kubernetes/kube-proxy.json");
        self.daemons.push(Daemon::start((&self.machine, &name), (folder, programs), &line));
    }
}

fn wire(control: &Control, machine: &Machine, name: &str, address: &str) {
    // After a reboot the kernel may take a moment for the cable that the node was at before.
    until(30, "the old cable is gone", || {
        let link = control.machine().command("ip").args(["link", "show", "dev", name]).output().unwrap();
        if link.status.success() { Err(format!("{name} is there")) } else { Ok(()) }
    });
    cable((control.machine().node(), name), (machine.node(), "eth0"));
    run(control.machine().command("ip").args(["link", "set", name, "master", "br0"]));
    for line in [
        format!("addr add {address}/24 dev eth0"),
        "link set eth0 up".into(),
        "route add default via 172.30.0.1".into(),
    ] {
        run(machine.command("ip").args(line.split(' ')));
    }
}
