//! What the agent puts on its node's disk: the plugin, before anybody is invited by the conflist.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use selvedge_lab::shape::Attach;
use selvedge_reconcile::status::State;
use selvedge_tests::{Agent, Cluster, Node, program, within};

use crate::site::alone;

/// Long enough for a busy machine.
const SOON: f64 = 30.0;

fn place(node: &Node) -> PathBuf {
    node.folder().join("bin/selvedge")
}

fn agent_installing(node: &Node, plugin: &Path) -> Agent {
    let bin = node.folder().join("bin");
    node.agent_with(&[("--cni-bin-dir", &bin), ("--plugin", plugin)])
}

fn must_be_there(node: &Node, agent: &Agent, bytes: &[u8]) {
    within(SOON, "the plugin is in its place", || {
        let there = fs::read(place(node)).is_ok_and(|there| there == bytes);
        let executable = fs::metadata(place(node)).is_ok_and(|file| file.mode() & 0o7777 == 0o755);
        if there && executable { Ok(()) } else { Err(agent.log()) }
    });
}

fn repaired(agent: &Agent) -> u64 {
    agent.status().repaired.get("plugin").copied().unwrap_or_default()
}

#[test]
fn the_plugin_is_installed_kept_so_and_left_alone_while_it_is_the_same() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let given = fs::read(program("selvedge")).unwrap();
    let agent = agent_installing(node, &program("selvedge"));
    agent.wait_until_ready();
    must_be_there(node, &agent, &given);
    type Break = fn(&Path) -> std::io::Result<()>;
    for break_it in [(|path| fs::remove_file(path)) as Break, |path| fs::write(path, "altered")] {
        let counted = repaired(&agent);
        // A pass that also brings something new doesn't count what it mends.
        let is_counted = (0..20).any(|_| {
            break_it(&place(node)).unwrap();
            must_be_there(node, &agent, &given);
            std::thread::sleep(Duration::from_millis(100));
            repaired(&agent) > counted
        });
        assert!(is_counted, "{}", agent.log());
    }
    fs::set_permissions(place(node), Permissions::from_mode(0o600)).unwrap();
    must_be_there(node, &agent, &given);
    let status = agent.status();
    assert!(status.repairs.iter().any(|repair| repair.step == "install the plugin"), "{:?}", status.repairs);
    let mended = fs::metadata(place(node)).unwrap().ino();
    agent.kill();
    let agent = agent_installing(node, &program("selvedge"));
    agent.wait_until_ready();
    within(SOON, "the new agent makes a pass", || {
        if agent.status().passes > 0 { Ok(()) } else { Err(agent.log()) }
    });
    assert_eq!(fs::metadata(place(node)).unwrap().ino(), mended, "what is the same is not written again");
    // Pods are served by what was installed.
    let pod = cluster.attach(node, "web");
    cluster.detach(node, &pod);
}

#[test]
fn another_version_takes_the_place_of_the_one_before_and_of_what_a_killed_install_left() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let bin = node.folder().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("selvedge"), "an older version").unwrap();
    let half = fs::File::create(bin.join(".selvedge.new-0123456789abcdef")).unwrap();
    half.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
    fs::write(bin.join("bridge"), "somebody else's").unwrap();
    let agent = agent_installing(node, &program("selvedge"));
    agent.wait_until_ready();
    must_be_there(node, &agent, &fs::read(program("selvedge")).unwrap());
    let names = fs::read_dir(&bin).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["bridge", "selvedge"]);
}

#[test]
fn without_the_plugin_that_it_was_given_nobody_is_invited() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let given = node.folder().join("given");
    let agent = agent_installing(node, &given);
    within(SOON, "the failure is told", || {
        let state = format!("{:?}", agent.status().state);
        if state.contains("install the plugin") { Ok(()) } else { Err(state) }
    });
    assert!(!node.conflist().exists() && !agent.status().state.serves());
    fs::copy(program("selvedge"), &given).unwrap();
    agent.wait_until_ready();
    assert!(node.conflist().exists() && place(node).exists());
}

#[test]
fn sysctls_are_read_and_written_where_the_command_line_says() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let sys = node.folder().join("sys");
    let own = node.namespace.run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward")).unwrap().unwrap();
    let files = [
        ("net/ipv4", "ip_forward"),
        ("net/ipv6/conf/all", "forwarding"),
        ("net/ipv4/conf/selvedge-vx", "rp_filter"),
    ];
    for (directory, file) in files {
        fs::create_dir_all(sys.join(directory)).unwrap();
        fs::write(sys.join(directory).join(file), "0\n").unwrap();
    }
    let agent = node.agent_with(&[("--sysctl-dir", &sys)]);
    agent.wait_until_ready();
    let forwards = || fs::read_to_string(sys.join("net/ipv4/ip_forward")).unwrap().starts_with('1');
    assert!(forwards(), "{}", agent.log());
    assert!(fs::read_to_string(sys.join("net/ipv6/conf/all/forwarding")).unwrap().starts_with('1'));
    let now = node.namespace.run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward")).unwrap().unwrap();
    assert_eq!(now, own, "the other place is left alone");
    fs::write(sys.join("net/ipv4/ip_forward"), "0\n").unwrap();
    within(SOON, "drift is found there", || if forwards() { Ok(()) } else { Err(agent.log()) });
}

#[test]
fn other_networks_configurations_are_left_alone_and_told_of_by_whether_runtimes_take_them() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    let agent = node.ready_agent();
    let put = |name: &str| fs::write(node.conflist().with_file_name(name), "somebody else's").unwrap();
    put("20-other.conflist");
    within(SOON, "the later one is told of", || {
        let status = agent.status();
        let noted = status.notes.iter().any(|note| note.contains("20-other.conflist"));
        if noted && status.state == State::Ready { Ok(()) } else { Err(agent.log()) }
    });
    put("05-other.conflist");
    let degraded = |agent: &Agent| match agent.status().state {
        State::Degraded { reasons } => reasons.iter().any(|reason| reason.contains("05-other.conflist")),
        State::Waiting { .. } | State::Ready | State::Failed { .. } => false,
    };
    within(SOON, "the earlier one degrades the node", || {
        if degraded(&agent) { Ok(()) } else { Err(agent.log()) }
    });
    for name in ["05-other.conflist", "20-other.conflist"] {
        let path = node.conflist().with_file_name(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
        fs::remove_file(path).unwrap();
    }
    within(SOON, "all is well without them", || {
        let status = agent.status();
        if status.state == State::Ready && status.notes.is_empty() { Ok(()) } else { Err(agent.log()) }
    });
}

#[test]
fn a_conflist_that_got_another_name_leaves_the_one_before_no_place_and_an_edited_one_is_told_of() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    assert_eq!(node.ready_agent().terminate().code(), Some(0));
    let before = fs::read_to_string(node.conflist()).unwrap();
    let at = |name: &str| node.conflist().with_file_name(name);
    let edited = before.replacen("1.0.0", "0.4.0", 1);
    fs::write(at("05-edited.conflist"), &edited).unwrap();
    let configuration = fs::read_to_string(node.folder().join("agent.yaml")).unwrap();
    let renamed = format!("{configuration}conflistName: 20-renamed.conflist\n");
    fs::write(node.folder().join("agent.yaml"), renamed).unwrap();
    let agent = node.start_agent();
    within(SOON, "the new one alone is there", || {
        let (old, new) = (node.conflist().exists(), fs::read_to_string(at("20-renamed.conflist")));
        if !old && new.is_ok_and(|text| text == before) { Ok(()) } else { Err(agent.log()) }
    });
    assert_eq!(fs::read_to_string(at("05-edited.conflist")).unwrap(), edited);
    within(SOON, "the edited one is told of as ours", || match agent.status().state {
        State::Degraded { reasons }
            if reasons.iter().any(|reason| {
                reason.contains("05-edited.conflist instead of 20-renamed.conflist: it is an earlier one")
            }) =>
        {
            Ok(())
        }
        state => Err(format!("{state:?}")),
    });
    let steps = agent.log();
    let (written, removed) = (steps.find("write the conflist"), steps.find("remove 10-selvedge.conflist"));
    assert!(written.is_some() && written < removed, "{steps}");
    fs::remove_file(at("05-edited.conflist")).unwrap();
    within(SOON, "all is well", || match agent.status().state {
        State::Ready => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!(agent.status().repaired.get("conflist"), None, "nobody broke anything");
}
