//! Many pods at once.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use super::cri::Config;
use super::daemon::{Daemon, releases, routed};
use super::{report, spread};

const PODS: usize = 50;

#[test]
fn fifty_sandboxes_at_once_get_addresses_of_their_own_and_leave_nothing() {
    for release in releases() {
        let Some(daemon) = Daemon::start(release, &routed(&json!({"type": "selvedge"}))) else { return };
        let cri = daemon.cri();
        let began = Instant::now();
        let configs = (0..PODS).map(|number| Config::of(&format!("pod-{number}"))).collect();
        let ran = cri.run_all(configs);
        let all = began.elapsed();
        let slowest = ran.iter().map(|(_, took)| *took).max().unwrap();
        let ids: Vec<String> = ran.into_iter().map(|(id, _)| id.unwrap()).collect();
        let addresses: Vec<String> = ids.iter().flat_map(|id| cri.addresses(id)).collect();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        assert_eq!((addresses.len(), distinct.len()), (2 * PODS, 2 * PODS), "{addresses:?}");
        let began = Instant::now();
        cri.end_all(&ids);
        let (version, gone) = (&daemon.release.version, began.elapsed());
        report(&format!(
            "containerd {version}: {PODS} sandboxes in {all:.1?}, the slowest in {slowest:.1?}; gone in {gone:.1?}"
        ));
        report(&format!("containerd {version}: of it our ADD: {}", spread(&daemon.took("ADD"))));
        report(&format!("containerd {version}: of it our DEL: {}", spread(&daemon.took("DEL"))));
        daemon.nothing_is_left();
    }
}
