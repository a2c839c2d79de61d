//! `ctr run --cni`, for which a network is deleted by name alone.

use std::process::Stdio;

use selvedge_netns::Namespace;
use selvedge_tests::{Ran, Traces, within};
use serde_json::json;

use super::daemon::{Daemon, IMAGE, releases, routed};
use super::recorder;

/// DEL-3: `ctr` never names the namespace to DEL, which here lives on because somebody holds it.
#[test]
fn a_container_of_ctr_leaves_nothing_although_its_namespace_lives() {
    let bridged = json!({"attach": "bridge", "network": "10.244.0.0/16", "subnet": "10.244.1.0/24"});
    for (release, plugin) in
        releases().into_iter().flat_map(|r| [(r.clone(), json!({})), (r, bridged.clone())])
    {
        let Some(daemon) = Daemon::start(release, &routed(&plugin)) else { return };
        let mut run = daemon.ctr(&["run", "--rm", "--cni", "--snapshotter", "native", IMAGE, "web"]);
        // It lives until there is no more to read.
        let mut run = run.arg("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let add = within(10.0, "the container is attached", || {
            recorder::calls(&daemon.machine, "ADD").pop().ok_or_else(|| daemon.log())
        });
        assert_eq!(add.variable("CNI_CONTAINERID"), "default-web");
        assert_eq!(add.variable("CNI_IFNAME"), "eth0");
        let path = add.variable("CNI_NETNS");
        assert!(path.starts_with("/proc/") && path.ends_with("/ns/net"), "{path}");
        let pod = Namespace::open(&daemon.machine.path(path)).unwrap();
        within(20.0, "the container has its address", || {
            let traces = Traces::in_pod(&pod);
            let found = traces.with("address 10.244.1.2/").len();
            if found == 1 { Ok(()) } else { Err(format!("{traces:?}")) }
        });
        drop(run.stdin.take());
        assert!(run.wait().unwrap().success());
        let del = recorder::calls(&daemon.machine, "DEL").pop().unwrap();
        assert_eq!(del.variable("CNI_NETNS"), "");
        assert_eq!(del.variable("CNI_CONTAINERID"), "default-web");
        assert!(del.stdin["prevResult"].is_object(), "{}", del.stdin);
        daemon.nothing_is_left();
        assert_eq!(Traces::in_pod(&pod).with("eth0"), Vec::<&str>::new());
        assert_eq!(Ran::of(&mut daemon.ctr(&["containers", "list", "--quiet"])).must_succeed(), "");
    }
}
