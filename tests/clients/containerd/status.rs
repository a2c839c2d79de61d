//! What containerd says of the network: the kubelet asks every five seconds, and takes the node out of service if it
//! is not ready. From 2.1 on containerd asks the plugin each time.

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use selvedge_tests::{bin_dir, within};
use serde_json::{Value, json};

use super::cri::{Config, Cri};
use super::daemon::{CONFLIST, Daemon, Release, releases, routed};
use super::{report, spread, took};

/// A runtime waits for STATUS before it sets up a pod.
const PROMPT: Duration = Duration::from_millis(50);

const PODS: usize = 50;

#[test]
fn status_is_prompt_while_fifty_pods_come_and_go_and_while_the_leases_are_locked() {
    let bridged = json!({
        "type": "selvedge", "attach": "bridge", "network": "10.244.0.0/16", "subnet": "10.244.1.0/24"
    });
    for release in releases().into_iter().filter(Release::is_2) {
        for plugin in [json!({"type": "selvedge"}), bridged.clone()] {
            let Some(daemon) = Daemon::start(release.clone(), &routed(&plugin)) else { return };
            let (cri, version) = (daemon.cri(), &daemon.release.version);
            let alone = among_pods(&daemon, &cri, &plugin);
            let asked = daemon.took("STATUS");
            report(&format!("containerd {version}: its STATUS among {PODS} pods: {}", spread(&asked)));
            report(&format!("containerd {version}: STATUS that waits for no processor: {}", spread(&alone)));
            // Of twenty answers one may be late: this machine itself waits for the one that it runs on.
            let late = alone.iter().filter(|answer| **answer >= PROMPT).count();
            assert!(alone.len() > 20 && late * 20 <= alone.len(), "{alone:?}");
            daemon.nothing_is_left();
            ready_while_locked(&daemon, &cri);
        }
    }
}

/// Has the plugin asked for STATUS before all other processes run: what it then waits for is not a processor. How long
/// it took.
fn asked_first(daemon: &Daemon) -> Duration {
    let line =
        "CNI_COMMAND=STATUS CNI_PATH=/opt/cni/bin exec chrt --fifo 1 /opt/cni/bin/selvedge </run/status.json";
    let ran = daemon.machine.run("sh", &["-c", line]);
    ran.must_succeed();
    took(&ran.stderr, "STATUS")[0]
}

/// Runs pods and ends them, while containerd is asked for its Status and the plugin for its own. How long that took.
fn among_pods(daemon: &Daemon, cri: &Cri, plugin: &Value) -> Vec<Duration> {
    let mut config = routed(plugin)["plugins"][0].take();
    config["name"] = "selvedge".into();
    config["cniVersion"] = "1.1.0".into();
    daemon.machine.write("/run/status.json", config.to_string());
    let mut alone = Vec::new();
    thread::scope(|scope| {
        let asking = daemon.cri();
        let load = scope.spawn(|| {
            let pods = (0..PODS).map(|number| Config::of(&format!("pod-{number}"))).collect();
            let ids: Vec<_> = cri.run_all(pods).into_iter().map(|(id, _)| id.unwrap()).collect();
            cri.end_all(&ids);
        });
        while !load.is_finished() {
            let (network, _) = asking.network();
            assert!(network.good, "{network:?}");
            alone.push(asked_first(daemon));
            thread::sleep(Duration::from_millis(10));
        }
        load.join().unwrap();
    });
    alone
}

fn ready_while_locked(daemon: &Daemon, cri: &Cri) {
    let lock = File::options().write(true).open(daemon.run_dir().join("ipam/selvedge/lock")).unwrap();
    lock.lock().unwrap();
    let answers = (0..19).map(|_| cri.network());
    let took = answers.inspect(|(network, _)| assert!(network.good, "{network:?}")).map(|(_, took)| took);
    let took: Vec<_> = took.collect();
    report(&format!(
        "containerd {}: Status with the leases locked: {}",
        daemon.release.version,
        spread(&took)
    ));
    let alone: Vec<_> = (0..19).map(|_| asked_first(daemon)).collect();
    assert!(*alone.iter().max().unwrap() < PROMPT, "{alone:?}");
}

/// The agent of a node with one link to others, killed with its machine.
fn agent(daemon: &Daemon) -> Child {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]}
    });
    daemon.machine.write("/run/manifests/node.json", node.to_string());
    let mut command = daemon.machine.command("/opt/cni/bin/selvedge-agent");
    command.args(["--node", "node-a", "--manifests", "/run/manifests"]);
    let log = File::options().create(true).append(true).open(daemon.machine.path("/run/agent.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn kill(daemon: &Daemon, mut agent: Child) {
    // Names of processes are cut off after 15 bytes.
    let ids = daemon.machine.processes("selvedge-agent");
    ids.into_iter().for_each(|id| daemon.machine.kill(id));
    agent.wait().unwrap();
}

fn until_ready(daemon: &Daemon, cri: &Cri) {
    within(20.0, "the network is ready", || {
        let (network, _) = cri.network();
        let log = || fs::read_to_string(daemon.machine.path("/run/agent.log")).unwrap_or_default();
        let ready = network.good && daemon.machine.path("/run/selvedge/ready").exists();
        if ready { Ok(()) } else { Err(format!("{network:?}\n{}", log())) }
    });
}

/// Decision of the design: a node whose agent is away for a while keeps its pods.
#[test]
fn a_node_is_not_ready_until_its_agent_was_and_stays_ready_without_it() {
    for release in releases() {
        let Some(mut daemon) = Daemon::start(release, &json!({})) else { return };
        daemon.machine.install(&bin_dir().join("selvedge-agent"), "/opt/cni/bin");
        let uplink = "ip link add up0 type veth peer name up1 && ip address add 172.30.0.11/24 dev up0 \
                      && ip link set up0 up && ip link set up1 up";
        daemon.machine.run("sh", &["-c", uplink]).must_succeed();
        fs::remove_file(daemon.machine.path(CONFLIST)).unwrap();
        let cri = daemon.cri();
        within(20.0, "containerd has noticed that there is no network", || {
            let (network, _) = cri.network();
            if network.good { Err(format!("{network:?}")) } else { Ok(()) }
        });
        let running = agent(&daemon);
        until_ready(&daemon, &cri);
        daemon.remember();
        kill(&daemon, running);

        // As after a reboot: the conflist is there, and what is in /run is not.
        fs::remove_dir_all(daemon.run_dir()).unwrap();
        let (network, _) = cri.network();
        assert_eq!(network.good, !daemon.release.is_2(), "{network:?}");
        if daemon.release.is_2() {
            let reason = "selvedge-agent has not been ready on this node since it was booted";
            assert!(network.message.contains(reason), "{network:?}");
        }
        let running = agent(&daemon);
        until_ready(&daemon, &cri);
        kill(&daemon, running);

        let (network, _) = cri.network();
        assert!(network.good, "{network:?}");
        let running = agent(&daemon);
        until_ready(&daemon, &cri);
        let id = cri.run(Config::of("web-0")).unwrap();
        assert_eq!(cri.addresses(&id), ["10.244.1.2"]);
        cri.end_all(&[id]);
        daemon.nothing_is_left();
        kill(&daemon, running);
    }
}
