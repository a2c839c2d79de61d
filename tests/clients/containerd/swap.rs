//! The conflist is replaced while pods come and go.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::cri::Config;
use super::daemon::{CONFLIST, Daemon, releases, routed};

#[test]
fn no_sandbox_fails_while_the_conflist_is_replaced_again_and_again() {
    for release in releases() {
        let Some(daemon) = Daemon::start(release, &routed(&json!({"type": "selvedge"}))) else { return };
        let done = AtomicBool::new(false);
        let swaps = thread::scope(|scope| {
            let swapping = scope.spawn(|| swap(&daemon, &done));
            let cri = daemon.cri();
            for round in 0..3 {
                let configs = (0..10).map(|number| Config::of(&format!("pod-{round}-{number}"))).collect();
                let ids: Vec<_> = cri.run_all(configs).into_iter().map(|(id, _)| id.unwrap()).collect();
                let (network, _) = cri.network();
                assert!(network.good, "{network:?}");
                cri.end_all(&ids);
            }
            done.store(true, Ordering::SeqCst);
            swapping.join().unwrap()
        });
        assert!(swaps > 20, "only {swaps} times");
        daemon.nothing_is_left();
    }
}

/// Replaces the conflist as the agent does, with one of another MTU, until it is done; how often.
fn swap(daemon: &Daemon, done: &AtomicBool) -> usize {
    let path = daemon.machine.path(CONFLIST);
    let temporary = path.with_file_name(".10-selvedge.conflist.tmp");
    let mut swaps = 0;
    while !done.load(Ordering::SeqCst) {
        let mtu = 1400 + swaps % 2;
        fs::write(&temporary, routed(&json!({"type": "selvedge", "mtu": mtu})).to_string()).unwrap();
        fs::rename(&temporary, &path).unwrap();
        swaps += 1;
        thread::sleep(Duration::from_millis(20));
    }
    swaps
}
