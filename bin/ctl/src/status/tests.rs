use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvedge_reconcile::status::{Found, Pass, PeerStatus, Repair, StepOutcome, StepResult, There, Wanted};
use serde_json::json;

use super::*;

/// The moment at which the screens are drawn.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn ago(seconds: u64) -> u64 {
    (NOW.as_secs() - seconds) * 1000
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn step(step: &str, result: StepResult) -> StepOutcome {
    StepOutcome { step: step.to_owned(), object: "route".to_owned(), result }
}

fn pass(because: &str, seconds_ago: u64, steps: Vec<StepOutcome>) -> Pass {
    Pass { because: texts(&[because]), at_ms: ago(seconds_ago), took_us: 1930, steps, others: 0 }
}

fn working() -> Status {
    let route = "ip route replace 10.244.1.0/24 via 172.30.0.12 dev eth0 proto 83";
    let mut status = Status::starting("node-a", "1.2.3");
    status.state = State::Ready;
    *status.wanted = Wanted {
        pod_cidrs: texts(&["10.244.0.0/24", "fd00:10:244::/64"]),
        addresses: texts(&["172.30.0.11", "fd00:30::11"]),
        attach: "routed".to_owned(),
        mtu: 1500,
        peers: vec![
            PeerStatus {
                node: "node-b".to_owned(),
                transport: "direct".to_owned(),
                instead_of: None,
                path_mtu: 1500,
                measured: Found::Ok,
            },
            PeerStatus {
                node: "node-c".to_owned(),
                transport: "vxlan".to_owned(),
                instead_of: Some("direct".to_owned()),
                path_mtu: 1450,
                measured: Found::Silent,
            },
        ],
        routes: texts(&["10.244.1.0/24 via 172.30.0.12 dev eth0", "10.244.2.0/24 via 172.30.0.13 dev eth0"]),
        attachments: texts(&["slv4k2mabcdefgh 10.244.0.12,fd00:10:244::c"]),
        tables: texts(&["inet selvedge"]),
    };
    *status.there = There {
        routes: status.wanted.routes.clone(),
        links: vec!["slv4k2mabcdefgh selvedge selvedge c1/eth0 10.244.0.12/32".to_owned()],
        tables: status.wanted.tables.clone(),
        forward_chains: vec!["nft ip filter FORWARD".to_owned()],
        conflist: true,
    };
    status.passes = 812;
    status.last_pass = Some(pass("resync", 12, vec![]));
    status.last_change = Some(pass("route event", 400, vec![step(route, StepResult::Done)]));
    status.repaired = [("route".to_owned(), 3), ("sysctl".to_owned(), 1)].into();
    status
        .repairs
        .push_back(Repair { at_ms: ago(90_000), step: "sysctl -w net.ipv4.ip_forward=1".to_owned() });
    status.repairs.push_back(Repair { at_ms: ago(400), step: route.to_owned() });
    status.leases_freed = 2;
    status
}

fn failed() -> Status {
    let mut status = working();
    let change = vec![
        step("ip link add cni0 type bridge", StepResult::Done),
        step("ip addr add 10.244.0.1/24 dev cni0", StepResult::Failed("Operation not permitted".to_owned())),
        step("ip link set cni0 up", StepResult::Skipped),
    ];
    status.state = State::Failed { reasons: texts(&["ip addr add 10.244.0.1/24 dev cni0 failed"]) };
    status.last_pass = Some(pass("start", 0, change));
    status.last_change = status.last_pass.clone();
    status.source_problems = texts(&["nodes.yaml:7: spec.podCIDRs[0]: \u{1b}]0;owned\u{7} is no CIDR"]);
    status
}

#[test]
fn before_the_first_pass_the_screen_says_so() {
    let screen = Screen::of(&Status::starting("node-a", "1.2.3"), NOW, Paint::Plain);
    assert_eq!(screen, include_str!("starting.txt"));
}

#[test]
fn a_working_node_shows_what_is_wanted_and_what_was_repaired() {
    assert_eq!(Screen::of(&working(), NOW, Paint::Plain), include_str!("working.txt"));
}

#[test]
fn a_failed_step_comes_first_and_control_characters_are_spelt_out() {
    assert_eq!(Screen::of(&failed(), NOW, Paint::Plain), include_str!("failed.txt"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = Screen::of(&failed(), NOW, Paint::Coloured);
    assert!(coloured.starts_with("node-a is \x1b[31mFAILED\x1b[0m (selvedge-agent 1.2.3)\n"), "{coloured}");
    let mut plain = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, Screen::of(&failed(), NOW, Paint::Plain));
}

#[test]
fn long_lists_are_cut_and_say_by_how_much() {
    let mut status = working();
    status.wanted.routes = (0..1000).map(|node| format!("route {node}")).collect();
    let screen = Screen::of(&status, NOW, Paint::Plain);
    assert!(screen.contains("route 20\n") && !screen.contains("route 21\n"), "{screen}");
    assert!(screen.contains("and 979 more (--json shows all)\n"), "{screen}");
}

#[test]
fn a_long_step_is_cut_between_characters() {
    let mut status = working();
    status.last_pass = Some(pass("start", 0, vec![step(&"ä".repeat(1000), StepResult::Done)]));
    let screen = Screen::of(&status, NOW, Paint::Plain);
    assert!(screen.contains(&format!("done     {} …\n", "ä".repeat(160))), "{screen}");
}

/// A socket at which something answers once, as an agent or otherwise.
struct Agent {
    run_dir: PathBuf,
    thread: Option<JoinHandle<String>>,
}

impl Agent {
    fn answering(answer: String) -> Self {
        let mut agent = Self::absent();
        let listener = UnixListener::bind(agent.run_dir.join("agent.sock")).unwrap();
        agent.thread = Some(thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            stream.read_to_string(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        }));
        agent
    }

    fn absent() -> Self {
        static AGENTS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("selvedgectl-{}-{}", process::id(), AGENTS.fetch_add(1, Ordering::Relaxed));
        let run_dir = env::temp_dir().join(name);
        fs::create_dir(&run_dir).unwrap();
        Self { run_dir, thread: None }
    }

    fn asked(&mut self) -> Result<(Status, Value), AskError> {
        ask(&self.run_dir)
    }

    fn error(&mut self) -> String {
        self.asked().unwrap_err().told(&self.run_dir)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.run_dir).unwrap();
    }
}

#[test]
fn the_agent_is_asked_for_its_status() {
    let answer = json!(working());
    let mut agent = Agent::answering(format!("{answer}\n"));
    let (status, whole) = agent.asked().unwrap();
    assert_eq!(status, working());
    assert_eq!(whole, answer);
    assert_eq!(agent.thread.take().unwrap().join().unwrap(), "{\"get\":\"status\"}\n");
}

#[test]
fn only_a_ready_node_exits_with_zero() {
    let args = StatusArgs { json: true, cluster: ClusterArgs::default() };
    for (status, code) in [(working(), 0), (failed(), 1), (Status::starting("node-a", "1.2.3"), 1)] {
        let agent = Agent::answering(json!(status).to_string());
        assert_eq!(run(&agent.run_dir, &args, false), ExitCode::from(code));
    }
    assert_eq!(run(&Agent::absent().run_dir, &args, false), ExitCode::from(2));
}

#[test]
fn where_there_is_no_agent_the_error_names_the_socket_and_how_to_start_one() {
    let mut agent = Agent::absent();
    let error = agent.error();
    let run_dir = agent.run_dir.display();
    let start = format!("no agent answers at \"{run_dir}/agent.sock\": No such file or directory");
    assert!(error.starts_with(&format!("selvedgectl: {start}")), "{error}");
    assert!(
        error.contains(&format!("selvedge-agent --node NAME --manifests DIR --run-dir {run_dir}`")),
        "{error}"
    );
}

#[test]
fn a_dead_agents_socket_counts_as_no_agent() {
    let mut agent = Agent::absent();
    drop(UnixListener::bind(agent.run_dir.join("agent.sock")).unwrap());
    assert!(agent.error().contains("no agent answers at"), "{}", agent.error());
}

#[test]
fn what_is_no_status_is_an_error() {
    for answer in ["", "{}", "{\"error\":\"not understood\"}", "HTTP/1.1 400 Bad Request"] {
        let error = Agent::answering(answer.to_owned()).error();
        assert!(error.contains("not understood"), "{answer}: {error}");
    }
}
