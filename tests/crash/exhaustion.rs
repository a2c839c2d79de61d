//! A small subnet, and clients that crash for ever.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use selvedge_tests::Call;
use serde_json::json;

use crate::herd::{Herd, addresses, say};
use crate::mounts::with_tmpfs;

/// The pods that a /29 has room for.
const ROOM: usize = 5;

/// How many pods are attached and detached: SELVEDGE_CRASH_LOOPS, or ten thousand.
fn loops() -> usize {
    std::env::var("SELVEDGE_CRASH_LOOPS").ok().and_then(|loops| loops.parse().ok()).unwrap_or(10_000)
}

#[test]
fn ten_thousand_pods_on_eight_addresses_leave_nothing_and_a_full_pool_says_so() {
    let test = "exhaustion::ten_thousand_pods_on_eight_addresses_leave_nothing_and_a_full_pool_says_so";
    with_tmpfs(test, "4m", |folder| {
        let config = json!({"subnet": "10.244.1.0/29", "attach": "routed"});
        let Some(herd) = Herd::new(&folder.join("run"), ROOM + 1, config) else { return };
        full_says_so(&herd);
        let (began, all, rounds) = (Instant::now(), loops(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for pod in 0..ROOM {
                let (herd, rounds) = (&herd, &rounds);
                scope.spawn(move || {
                    while rounds.fetch_add(1, Ordering::Relaxed) < all {
                        let given = addresses(&herd.add(pod));
                        assert!(given.iter().all(|address| address.starts_with("10.244.1.")), "{given:?}");
                        herd.run(&herd.call("DEL", pod)).done();
                    }
                });
            }
        });
        let took = began.elapsed();
        full_says_so(&herd);
        say(&format!("{all} pods one after another on a /29: {took:.1?}, 0 leaks"));
    });
}

/// Attaches as many as there is room for; then STATUS and ADD say that there is none, and say so no more once there is.
fn full_says_so(herd: &Herd) {
    let status = || herd.run(&Call::new("STATUS", herd.config.clone()));
    status().done();
    let given: BTreeSet<String> = (0..ROOM).flat_map(|pod| addresses(&herd.add(pod))).collect();
    assert_eq!(given.len(), ROOM);
    assert_eq!(status().refusal(), (50, "pool 10.244.1.0/29 is full (5 of 5 leased)"));
    let (code, message) = (herd.run(&herd.call("ADD", ROOM)), "pool 10.244.1.0/29 is full (5 of 5 leased)");
    assert_eq!(code.refusal(), (101, message));
    herd.run(&herd.call("DEL", 0)).done();
    status().done();
    (1..=ROOM).for_each(|pod| herd.run(&herd.call("DEL", pod)).done());
    herd.must_be_back();
}
