//! A storm of calls of every verb, some of them killed, held against a model of what may, must and must not be.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{Answer, Call};
use serde_json::{Value, json};

use crate::herd::{Herd, addresses, key, say};
use crate::mounts::with_tmpfs;

mod model;

use model::{Chance, Claims, Known};

/// Who calls at the same time.
const WORKERS: usize = 6;

/// The pods of each.
const PODS: usize = 4;

/// Of 100 calls, how many are killed.
const KILLED: u64 = 20;

#[test]
fn a_storm_of_calls_and_kills_on_a_bridge_gives_no_address_twice_and_leaves_nothing() {
    let test = "storm::a_storm_of_calls_and_kills_on_a_bridge_gives_no_address_twice_and_leaves_nothing";
    with_tmpfs(test, "16m", |folder| storm(&folder.join("run"), "bridge"));
}

#[test]
fn a_storm_of_calls_and_kills_on_routed_pods_gives_no_address_twice_and_leaves_nothing() {
    let test = "storm::a_storm_of_calls_and_kills_on_routed_pods_gives_no_address_twice_and_leaves_nothing";
    with_tmpfs(test, "16m", |folder| storm(&folder.join("run"), "routed"));
}

/// How long both storms take together: SELVEDGE_STORM_SECONDS, or a minute.
fn half_the_time() -> Duration {
    let seconds = std::env::var("SELVEDGE_STORM_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60)) / 2
}

/// What happens to everybody.
struct Storm {
    herd: Herd,
    claims: Mutex<Claims>,
    until: Instant,
    calls: AtomicUsize,
    kills: AtomicUsize,
}

fn storm(run_dir: &Path, attach: &str) {
    // As many addresses as there are pods: whatever leaks is missed at once.
    let range = json!({"subnet": "10.244.1.0/27", "rangeEnd": "10.244.1.25"});
    let config = json!({"attach": attach, "subnet": null, "ipam": {"ranges": [[range]]}});
    let Some(herd) = Herd::new(run_dir, WORKERS * PODS, config) else { return };
    let seed = std::env::var("SELVEDGE_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    say(&format!("storm, {attach}: SELVEDGE_STORM_SEED={seed}"));
    let until = Instant::now() + half_the_time();
    let storm = Storm {
        herd,
        claims: Mutex::default(),
        until,
        calls: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
    };
    let pods: Vec<Vec<Known>> = thread::scope(|scope| {
        let begin = |worker| {
            let storm = &storm;
            let chance = Chance::new(seed + worker as u64);
            let worker = Worker {
                storm,
                chance,
                first: worker * PODS,
                pods: vec![Known::Gone; PODS],
                whole: Duration::from_millis(20),
            };
            scope.spawn(move || worker.work())
        };
        let workers: Vec<_> = (0..WORKERS).map(begin).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    storm.end(&pods.concat());
    let (calls, kills) = (storm.calls.into_inner(), storm.kills.into_inner());
    assert!(kills * 10 > calls, "only {kills} of {calls} calls were killed");
    say(&format!(
        "storm, {attach}: {calls} calls, {kills} killed, {} survived, 0 leaks, 0 double owners",
        calls - kills
    ));
}

impl Storm {
    /// Holds the store against the model; then detaches everybody.
    fn end(&self, pods: &[Known]) {
        let leases = self.herd.store().read().unwrap();
        for (pod, known) in pods.iter().enumerate() {
            let lease = leases.lease(&key(pod));
            let leased =
                lease.map(|lease| lease.addresses.iter().map(|net| net.addr().to_string()).collect());
            match known {
                Known::Gone => assert_eq!(leased, None, "web-{pod} is gone"),
                Known::Attached(result) => {
                    assert_eq!(leased, Some(addresses(result)), "web-{pod} is attached");
                    self.herd.run(&self.herd.call_after("CHECK", pod, result)).done();
                }
                Known::Unsure => {}
            }
        }
        self.herd.at_once("DEL", 0..pods.len()).iter().for_each(Answer::done);
        self.herd.run(&self.herd.gc([])).done();
        self.herd.must_be_back();
    }
}

/// One of those who call, with pods that nobody else calls for.
struct Worker<'a> {
    storm: &'a Storm,
    chance: Chance,
    first: usize,
    pods: Vec<Known>,
    /// About what a call takes that nobody kills.
    whole: Duration,
}

impl Worker<'_> {
    fn work(mut self) -> Vec<Known> {
        while Instant::now() < self.storm.until {
            let own = usize::try_from(self.chance.below(PODS as u64)).unwrap_or(0);
            match (self.chance.below(20), self.pods[own].clone()) {
                (0, _) => self.status(),
                (1 | 2, _) => self.gc(),
                (_, Known::Gone) => self.add(own),
                (3..8, Known::Attached(result)) => self.check(own, &result),
                (8, Known::Attached(_)) => self.add_again(own),
                (_, Known::Attached(_) | Known::Unsure) => self.del(own),
            }
        }
        self.pods
    }

    /// Makes a call; `None` if it was killed.
    fn call(&mut self, call: &Call) -> Option<Answer> {
        self.storm.calls.fetch_add(1, Ordering::Relaxed);
        let (began, running) = (Instant::now(), call.start(self.storm.herd.stage.node()));
        if self.chance.below(100) < KILLED {
            thread::sleep(self.whole.mul_f64(self.chance.below(1000) as f64 / 1000.0));
            running.kill();
            self.storm.kills.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let answer = running.answer();
        self.whole = (self.whole * 3 + began.elapsed()) / 4;
        Some(answer)
    }

    fn add(&mut self, own: usize) {
        let pod = self.first + own;
        let answer = self.call(&self.storm.herd.call("ADD", pod));
        match answer {
            Some(answer) => {
                let result = answer.result().clone();
                self.claim(pod, addresses(&result));
                self.pods[own] = Known::Attached(result);
            }
            None => {
                // What it has got already it may keep until DEL.
                self.claim(pod, self.storm.herd.seen(pod));
                self.pods[own] = Known::Unsure;
            }
        }
    }

    fn add_again(&mut self, own: usize) {
        let answer = self.call(&self.storm.herd.call("ADD", self.first + own));
        if let Some(answer) = answer {
            assert_eq!(answer.refusal().0, 100);
        }
    }

    fn check(&mut self, own: usize, result: &Value) {
        let answer = self.call(&self.storm.herd.call_after("CHECK", self.first + own, result));
        if let Some(answer) = answer {
            answer.done();
        }
    }

    fn del(&mut self, own: usize) {
        let pod = self.first + own;
        self.claims(|claims| claims.give_back(pod));
        let answer = self.call(&self.storm.herd.call("DEL", pod));
        self.pods[own] = match answer {
            Some(answer) => {
                answer.done();
                assert_eq!(self.storm.herd.seen(pod), [].into(), "web-{pod} is detached");
                Known::Gone
            }
            None => {
                // An address is freed after the pod has lost it.
                self.claim(pod, self.storm.herd.seen(pod));
                Known::Unsure
            }
        };
    }

    /// Everybody else's pods are valid, and of the own those that are attached.
    fn gc(&mut self) {
        let own = self.first..self.first + PODS;
        let invalid =
            |pod: &usize| own.contains(pod) && !matches!(self.pods[*pod - own.start], Known::Attached(_));
        let gone: Vec<usize> = own.clone().filter(invalid).collect();
        let valid: Vec<usize> = (0..self.storm.herd.len()).filter(|pod| !gone.contains(pod)).collect();
        self.claims(|claims| gone.iter().for_each(|pod| claims.give_back(*pod)));
        let answer = self.call(&self.storm.herd.gc(valid));
        for pod in gone {
            if let Some(answer) = &answer {
                answer.done();
                assert_eq!(self.storm.herd.store().lease(&key(pod)).unwrap(), None, "GC left web-{pod}");
                self.pods[pod - own.start] = Known::Gone;
            } else {
                self.claim(pod, self.storm.herd.seen(pod));
            }
        }
    }

    /// There are as many addresses as pods, so that an ADD could always be served.
    fn status(&mut self) {
        let answer = self.call(&Call::new("STATUS", self.storm.herd.config.clone()));
        let all = self.storm.herd.len();
        if let Some(answer) = answer.filter(|answer| answer.code != 0) {
            let (code, message) = answer.refusal();
            assert_eq!(
                (code, message),
                (50, format!("pool 10.244.1.0/27 is full ({all} of {all} leased)").as_str())
            );
        }
    }

    fn claim(&self, pod: usize, addresses: impl IntoIterator<Item = String>) {
        self.claims(|claims| addresses.into_iter().for_each(|address| claims.claim(pod, address)));
    }

    fn claims<T>(&self, change: impl FnOnce(&mut Claims) -> T) -> T {
        change(&mut self.storm.claims.lock().unwrap())
    }
}
