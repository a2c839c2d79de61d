use std::path::Path;

use selvedge_source::yaml::{self, Field};

use super::*;

const LEAST: [&str; 5] = ["selvedge-agent", "--node", "node-a", "--manifests", "/srv/cluster"];

fn read(arguments: &[&str]) -> Result<Flags, clap::Error> {
    match Task::read(arguments.iter().map(OsString::from))? {
        Task::Run(flags) => Ok(flags),
        other => panic!("{other:?}"),
    }
}

fn with(more: &[&str]) -> Result<Flags, clap::Error> {
    read(&[&LEAST, more].concat())
}

fn refusal(more: &[&str]) -> String {
    let error = with(more).unwrap_err();
    assert_eq!(leave(&error), 64, "{error}");
    error.to_string()
}

#[test]
fn a_node_and_its_manifests_are_enough() {
    let flags = read(&LEAST).unwrap();
    assert_eq!(flags.node.as_str(), "node-a");
    assert_eq!(flags.source.manifests.as_deref(), Some(Path::new("/srv/cluster")));
    assert_eq!(flags.at.config, None);
    assert_eq!(flags.at.cni_conf_dir, Path::new("/etc/cni/net.d"));
    assert_eq!(flags.at.cni_bin_dir, Path::new("/opt/cni/bin"));
    assert_eq!(flags.at.run_dir, Path::new("/run/selvedge"));
    assert_eq!((flags.at.plugin, flags.listen), (None, None));
    assert_eq!(flags.at.sysctl_dir, Path::new("/proc/sys"));
}

#[test]
fn every_flag_is_taken() {
    let flags = with(&[
        "--config=/etc/selvedge.yaml",
        "--cni-conf-dir=/c",
        "--cni-bin-dir=/b",
        "--run-dir=/r",
        "--plugin=/p/selvedge",
        "--sysctl-dir=/host/proc/sys",
        "--listen=[::1]:0",
    ])
    .unwrap();
    assert_eq!(flags.at.config.as_deref(), Some(Path::new("/etc/selvedge.yaml")));
    assert_eq!(flags.at.cni_conf_dir, Path::new("/c"));
    assert_eq!(flags.at.cni_bin_dir, Path::new("/b"));
    assert_eq!(flags.at.run_dir, Path::new("/r"));
    assert_eq!(flags.at.plugin.as_deref(), Some(Path::new("/p/selvedge")));
    assert_eq!(flags.at.sysctl_dir, Path::new("/host/proc/sys"));
    assert_eq!(flags.listen, Some("[::1]:0".parse().unwrap()));
}

#[test]
fn without_manifests_the_api_is_followed() {
    let flags = read(&["selvedge-agent", "--node", "node-a"]).unwrap();
    assert_eq!((flags.source.manifests, flags.source.kubeconfig), (None, None));
    let flags = read(&["selvedge-agent", "--node", "node-a", "--kubeconfig", "/k"]).unwrap();
    assert_eq!(flags.source.kubeconfig.as_deref(), Some(Path::new("/k")));
    assert!(refusal(&["--kubeconfig", "/k"]).contains("--manifests"));
}

#[test]
fn without_a_node_only_the_node_is_asked_for() {
    let error = read(&["selvedge-agent", "--manifests", "/srv/cluster"]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("--node <NAME>"), "{text}");
    assert!(!text.contains("Kubernetes API"), "{text}");
}

#[test]
fn what_is_no_node_name_is_refused() {
    for bad in ["", "Node A", "a/b"] {
        let line = ["selvedge-agent", "--manifests", "/srv/cluster", &format!("--node={bad}")];
        let error = read(&line).unwrap_err();
        assert_eq!(leave(&error), 64, "{bad:?}");
        assert!(error.to_string().contains("--node <NAME>"), "{error}");
    }
}

#[test]
fn relative_paths_are_refused_by_flag() {
    for flag in ["--config", "--cni-conf-dir", "--cni-bin-dir", "--run-dir", "--plugin", "--sysctl-dir"] {
        let text = refusal(&[flag, "some/where"]);
        assert!(text.contains(flag) && text.contains("absolute"), "{text}");
    }
}

#[test]
fn an_address_to_listen_on_has_an_ip_and_a_port() {
    for bad in ["9763", ":9763", "localhost:9763", "127.0.0.1", "127.0.0.1:65536", "::1:80x"] {
        let text = refusal(&["--listen", bad]);
        assert!(text.contains("--listen") && text.contains("an IP address and a port"), "{text}");
    }
}

#[test]
fn what_is_not_a_flag_is_refused() {
    refusal(&["--manifest=/x"]);
    refusal(&["check-everything"]);
}

#[test]
fn asking_for_the_version_or_for_help_is_no_failure() {
    for asked in ["--version", "--help"] {
        let instead = with(&[asked]).unwrap_err();
        assert!(!instead.use_stderr());
        assert_eq!(leave(&instead), 0);
    }
    let version = with(&["--version"]).unwrap_err().to_string();
    assert_eq!(version, format!("selvedge-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_uninstall_takes_the_same_directories_and_needs_no_node() {
    let line = ["selvedge-agent", "uninstall", "--run-dir", "/r", "--with-pods"].map(OsString::from);
    let Ok(Task::Uninstall(flags)) = Task::read(line) else { panic!("no uninstall") };
    assert_eq!(
        (flags.at.run_dir.as_path(), flags.at.cni_bin_dir.as_path()),
        (Path::new("/r"), Path::new("/opt/cni/bin"))
    );
    assert!(flags.with_pods && !flags.dry_run);
    let line = ["selvedge-agent", "uninstall", "--node", "a"].map(OsString::from);
    assert_eq!(leave(&Task::read(line).unwrap_err()), 64);
}

/// What stands in a container's command and arguments, as the kubelet of node-a makes one line of it.
fn words(manifests: &str, container: &str) -> Vec<String> {
    let documents = yaml::documents(manifests.as_bytes(), &[]).map(Result::unwrap);
    let set = documents.filter_map(|document| {
        let pod = ["spec", "template", "spec"]
            .into_iter()
            .try_fold(Field::root(&document), |field, key| field.get(key).ok().flatten())?;
        let containers = pod.get(container).unwrap()?.items().unwrap().next()?;
        let list = |key: &str| {
            let list = containers.get(key).unwrap().unwrap();
            list.items()
                .unwrap()
                .map(|word| word.text().unwrap().replace("$(NODE_NAME)", "node-a"))
                .collect::<Vec<_>>()
        };
        Some([list("command"), list("args")].concat())
    });
    set.last().expect("a DaemonSet")
}

#[test]
fn the_manifests_command_lines_are_understood() {
    let agent = words(include_str!("../../../../deploy/selvedge.yaml"), "containers");
    let Task::Run(flags) = Task::read(agent.iter().map(OsString::from)).unwrap() else { panic!("{agent:?}") };
    assert_eq!(flags.at.plugin.as_deref(), Some(Path::new("/opt/selvedge/bin/selvedge")));
    assert_eq!(flags.at.sysctl_dir, Path::new("/host/proc/sys"));
    let Ok(Task::Check(check)) = Task::read(["selvedge-agent", "check"].map(OsString::from)) else {
        panic!("no check")
    };
    assert_eq!(flags.listen, Some(check.listen), "a check looks where the agent is to listen");
    let line = words(include_str!("../../../../deploy/selvedge-uninstall.yaml"), "initContainers");
    let Task::Uninstall(uninstall) = Task::read(line.iter().map(OsString::from)).unwrap() else {
        panic!("{line:?}")
    };
    assert!(uninstall.with_pods && !uninstall.dry_run);
    let Places { plugin, .. } = flags.at.clone();
    assert_eq!(uninstall.at, Places { plugin: None, ..flags.at }, "the same places, but for {plugin:?}");
}

#[test]
fn what_else_there_is_names_itself_in_its_usage_and_errors() {
    for verb in ["check", "uninstall"] {
        for wrong in ["--help", "--no-such-flag"] {
            let instead = Task::read(["/opt/selvedge-agent", verb, wrong].map(OsString::from)).unwrap_err();
            let text = instead.to_string();
            assert!(text.contains(&format!("Usage: selvedge-agent {verb} [OPTIONS]")), "{text}");
        }
    }
}

#[test]
fn a_check_takes_the_same_directories_and_needs_no_node() {
    let line = [
        "selvedge-agent",
        "check",
        "--node=node-a",
        "--pod-cidr=10.0.0.0/8",
        "--pod-cidr=fd00::/48",
        "--json",
        "--listen=[::1]:1",
    ];
    let Ok(Task::Check(flags)) = Task::read(line.map(OsString::from)) else { panic!("no check") };
    assert_eq!(flags.pod_cidr.len(), 2);
    assert_eq!(flags.node.map(|node| node.to_string()).as_deref(), Some("node-a"));
    assert!(flags.json && flags.listen.port() == 1 && flags.at.plugin.is_none());
}
