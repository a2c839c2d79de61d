//! The chart: the committed manifests are what it renders, and its values reach the right places.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::site::{Folder, deploy, documents, helm, of_kind, output, printed, text, the, tool};

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let Some(program) = tool("helm") else { return };
    let folder = Folder::new();
    printed(Command::new(deploy().join("render.sh")).arg(&program).arg(folder.path()));
    for name in ["selvedge.yaml", "selvedge-uninstall.yaml"] {
        let (rendered, committed) = (text(&folder.path().join(name)), text(&deploy().join(name)));
        assert!(rendered == committed, "deploy/{name} is not what the chart renders: run `make manifests`");
    }
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let Some(program) = tool("helm") else { return };
    let home = Folder::new();
    let said = printed(helm(&program, &home).args(["lint", "--strict"]).arg(deploy().join("helm/selvedge")));
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

#[test]
fn values_reach_the_objects() {
    let Some(objects) = rendered(&[
        "config.attach=bridge",
        "config.mtu=1400",
        "config.masquerade.exclude={192.168.0.0/16,fd00::/8}",
        "config.logFile=null",
        "config.removeTaint=true",
        "paths.runDir=/run/pods",
        "paths.cniConfDir=/var/lib/rancher/k3s/agent/etc/cni/net.d",
        "listen.address=::1",
        "apiServer.host=192.0.2.1",
        "apiServer.port=6443",
        "image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123",
        "seLinuxOptions.type=spc_t",
        "maxUnavailable=10%",
    ]) else {
        return;
    };
    let config = the(&objects, "ConfigMap")["data"]["config.yaml"].as_str().expect("it is text");
    let config = &documents(config)[0];
    assert_eq!(config["attach"], "bridge");
    assert_eq!(config["mtu"], 1400);
    assert_eq!(config["masquerade"]["exclude"], json!(["192.168.0.0/16", "fd00::/8"]));
    assert_eq!(config.get("logFile"), None, "what is null is left out");

    let patching = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]});
    assert!(list(&the(&objects, "ClusterRole")["rules"]).contains(&patching), "for the taint");

    let set = &the(&objects, "DaemonSet")["spec"];
    assert_eq!(set["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    let pod = &set["template"]["spec"];
    let agent = &pod["containers"][0];
    assert!(
        agent["image"].as_str().is_some_and(|image| image.starts_with("selvedge@sha256:0123")),
        "{agent}"
    );
    assert!(list(&agent["args"]).contains(&json!("--listen=[::1]:9763")), "{agent}");
    assert_eq!(agent["livenessProbe"]["httpGet"]["host"], "::1");
    assert_eq!(agent["securityContext"]["seLinuxOptions"]["type"], "spc_t");
    let variables = [
        json!({"name": "SELVEDGE_RUN_DIR", "value": "/run/pods"}),
        json!({"name": "KUBERNETES_SERVICE_HOST", "value": "192.0.2.1"}),
        json!({"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}),
    ];
    assert!(variables.iter().all(|variable| list(&agent["env"]).contains(variable)), "{agent}");
    let conf = list(&pod["volumes"]).iter().find(|volume| volume["name"] == "cni-conf");
    assert_eq!(
        conf.map(|conf| &conf["hostPath"]["path"]),
        Some(&json!("/var/lib/rancher/k3s/agent/etc/cni/net.d"))
    );
}

#[test]
fn a_forwarder_for_each_transport_that_needs_one_is_there_where_it_is_asked_for() {
    let values = ["config.transport=wireguard", "config.wireguard.port=51821", "config.encryption=strict"];
    for forwarder in [false, true] {
        let forwarder_is = format!("forwarder={forwarder}");
        let cidrs = "config.clusterCidrs={10.244.0.0/16}";
        let all: Vec<&str> = values.into_iter().chain([&*forwarder_is, cidrs]).collect();
        let Some(objects) = rendered(&all) else { return };
        let config = the(&objects, "ConfigMap")["data"]["config.yaml"].as_str().expect("it is text");
        let config = &documents(config)[0];
        assert_eq!((&config["transport"], &config["encryption"]), (&json!("wireguard"), &json!("strict")));
        assert_eq!(
            (&config["wireguard"]["port"], &config["clusterCidrs"]),
            (&json!(51821), &json!(["10.244.0.0/16"]))
        );
        assert!(config["wireguard"].get("keys").is_none_or(Value::is_null), "{config}");
        let set = &the(&objects, "DaemonSet")["spec"];
        assert_eq!(
            set["minReadySeconds"].is_number(),
            forwarder,
            "a node's streams run again before the next's turn"
        );
        let pod = &set["template"]["spec"];
        let others = list(&pod["containers"]).iter().filter(|container| container["name"] != "agent");
        let commands: Vec<_> = others.clone().map(|container| &container["command"]).collect();
        let tunnel = |transport: &str| json!(["/opt/selvedge/bin/selvedge-tunnel", transport]);
        let expected = if forwarder { vec![tunnel("udp"), tunnel("wireguard")] } else { Vec::new() };
        assert_eq!(commands, expected.iter().collect::<Vec<_>>());
        let last = list(&pod["containers"]).last().expect("there is one");
        assert_eq!(last["name"], "agent", "it finds what forwards for it");
        for container in others {
            assert_eq!(container["args"], json!(["--run-dir=/run/selvedge"]));
            assert_eq!(container["securityContext"]["privileged"], true);
            let run = json!({"name": "run", "mountPath": "/run", "mountPropagation": "HostToContainer"});
            assert_eq!(container["volumeMounts"], json!([run]), "copies would keep networks of pods");
        }
    }
    let Some(objects) = rendered(&["forwarder=true", "uninstall=true"]) else { return };
    let set = &the(&objects, "DaemonSet")["spec"];
    assert_eq!(list(&set["template"]["spec"]["containers"]).len(), 1, "an uninstall forwards nothing");
    assert!(set["minReadySeconds"].is_null(), "nobody waits for it either");
}

#[test]
fn a_value_that_means_nothing_is_refused_by_its_path() {
    let Some(program) = tool("helm") else { return };
    for (value, path) in [
        ("config.mtu=12", "/config/mtu"),
        ("config.attach=sideways", "/config/attach"),
        ("config.nonsense=1", "/config"),
        ("config.encryption=some", "/config/encryption"),
        ("config.wireguard.port=0", "/config/wireguard/port"),
        ("config.wireguard.keys=keys", "/config/wireguard/keys"),
        ("paths.runDir=/var/lib/selvedge", "/paths/runDir"),
        ("maxUnavailable=0", "/maxUnavailable"),
    ] {
        let home = Folder::new();
        let mut helm = helm(&program, &home);
        let output =
            output(helm.args(["template", "x"]).arg(deploy().join("helm/selvedge")).args(["--set", value]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&format!("at '{path}'")), "{value}: {said}");
    }
}

#[test]
fn kustomize_takes_the_folder_as_a_base() {
    let Some(program) = tool("kubectl") else { return };
    let folder = Folder::new();
    let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
    for part in [&base, &overlay] {
        fs::create_dir(part).expect("a folder");
    }
    for name in ["kustomization.yaml", "selvedge.yaml"] {
        fs::write(base.join(name), text(&deploy().join(name))).expect("written");
    }
    let kustomization =
        "resources: [../base]\nimages: [{name: selvedge, newName: registry.example/selvedge}]\n";
    fs::write(overlay.join("kustomization.yaml"), kustomization).expect("written");
    let built = documents(&printed(Command::new(program).arg("kustomize").arg(&overlay)));
    let committed = documents(&text(&deploy().join("selvedge.yaml")));
    assert_eq!(built.len(), committed.len());
    for kind in ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding"] {
        assert_eq!(of_kind(&built, kind), of_kind(&committed, kind));
    }
    let image = &the(&built, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, format!("registry.example/selvedge:{}", env!("CARGO_PKG_VERSION")));
}

/// What the chart renders with some values.
fn rendered(values: &[&str]) -> Option<Vec<Value>> {
    let (program, home) = (tool("helm")?, Folder::new());
    let mut helm = helm(&program, &home);
    helm.args(["template", "selvedge"]).arg(deploy().join("helm/selvedge"));
    for value in values {
        helm.args(["--set", value]);
    }
    Some(documents(&printed(&mut helm)))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
