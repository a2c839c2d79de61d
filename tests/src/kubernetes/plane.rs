//! etcd, and the API server that keeps its objects in it.

use std::path::PathBuf;
use std::process::Command;

use crate::Machine;
use crate::kubernetes::certificates::{Authority, Identity};
use crate::kubernetes::daemon::{Daemon, command, line};
use crate::kubernetes::folder::{Folder, Programs};
use crate::kubernetes::wait::until;

/// What both run on, and who may ask them. The flags are those that Kubernetes 1.20 and the newest understand.
#[derive(Debug)]
pub struct Plane {
    /// Where they run.
    pub machine: Machine,
    /// Whom they trust.
    pub authority: Authority,
    /// How the API server is reached.
    pub server: String,
    etcd: Daemon,
    api: Option<Daemon>,
    api_line: Vec<String>,
    kubectl: PathBuf,
    admin: PathBuf,
}

impl Plane {
    /// Starts both on a machine that has that address; they are ready when this returns.
    ///
    /// # Panics
    /// If they don't come up.
    pub fn start((machine, address): (Machine, &str), folder: &Folder, programs: &Programs) -> Self {
        let authority = Authority::found(folder.join("pki"));
        let etcd = line(
            &programs.debian("usr/bin/etcd"),
            "--data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls \
             http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --logger zap",
        );
        let etcd = Daemon::start((&machine, "etcd"), (folder, programs), &etcd);
        let server = format!("https://{address}:6443");
        let api_line = api_line(&authority, programs, address);
        let kubectl = programs.kubernetes("kubectl");
        let admin = authority.kubeconfig("admin", "/O=system:masters/CN=admin", &server);
        let mut plane = Self { machine, authority, server, etcd, api: None, api_line, kubectl, admin };
        plane.start_api(folder, programs);
        plane
    }

    /// kubectl as the cluster's administrator types it.
    pub fn kubectl(&self, programs: &Programs) -> Command {
        let mut kubectl = command(&self.machine, programs, &self.kubectl);
        kubectl.arg("--kubeconfig").arg(&self.admin);
        kubectl
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> &PathBuf {
        &self.admin
    }

    /// Kills the API server.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn stop_api(&mut self) {
        let api = self.api.take().expect("the API server runs");
        api.kill(&self.machine);
    }

    /// Starts it again; ready when it answers.
    ///
    /// # Panics
    /// If it doesn't come up.
    pub fn start_api(&mut self, folder: &Folder, programs: &Programs) {
        let daemon = Daemon::start((&self.machine, "kube-apiserver"), (folder, programs), &self.api_line);
        self.api = Some(daemon);
        until(90, "the API server is ready", || {
            self.must_run();
            let mut kubectl = self.kubectl(programs);
            let asked = kubectl.args(["get", "--raw", "/readyz"]).output().unwrap();
            if asked.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&asked.stderr).into_owned())
            }
        });
    }

    /// Looks whether both run.
    ///
    /// # Panics
    /// If one of them has ended by itself.
    pub fn must_run(&mut self) {
        self.api.iter_mut().chain([&mut self.etcd]).for_each(Daemon::must_run);
    }
}

fn api_line(authority: &Authority, programs: &Programs, address: &str) -> Vec<String> {
    let names = format!(
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:10.96.0.1,\
         IP:{address},IP:127.0.0.1"
    );
    let Identity { certificate, key } = authority.issue("apiserver", "/CN=kube-apiserver", &names);
    let kubelets = authority.issue("kubelets", "/O=system:masters/CN=kube-apiserver", "");
    let tokens = authority.signer();
    let arguments = format!(
        "--etcd-servers http://127.0.0.1:2379 --advertise-address {address} --secure-port 6443 --client-ca-file {ca} \
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
