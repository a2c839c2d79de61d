//! The lab's processes: that it stands, is entered and goes, and that nothing is left of it however it goes.
//!
//! The agents here are scripts that only write a conflist, and there are no pods, so that what is tested is the lab.
#![cfg(test)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};

mod segments;

/// An agent that writes its conflist, whole at once as a real one does, and stays.
const AGENT: &str = r#"#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = --cni-conf-dir ] && conf=$2; shift; done
echo '{"cniVersion":"1.1.0","name":"net","plugins":[]}' > "$conf/draft" && mv "$conf/draft" "$conf/10-net.conflist"
exec sleep 1000
"#;

/// An agent that never gets ready.
const SLOW_AGENT: &str = "#!/bin/sh\nexec sleep 1000\n";

/// A directory with the lab's programs and its state. Whatever stands at the end is taken down.
struct Bench {
    directory: PathBuf,
    user: Option<u32>,
}

/// Says why a test cannot run; under CI that is a failure.
fn skip<T>(reason: &str) -> Option<T> {
    println!("skipped: {reason}");
    assert!(std::env::var_os("CI").is_none(), "skipped under CI: {reason}");
    None
}

impl Bench {
    /// `None`, with the reason printed, where the system allows no lab.
    fn new(test: &str, agent: &str) -> Option<Self> {
        let directory = std::env::temp_dir().join(format!("selvedgectl-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let bench = Self { directory, user: None };
        bench.install(agent);
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--pid", "--fork", "true"]);
        match geteuid().is_root() || unshare.status().is_ok_and(|status| status.success()) {
            true => Some(bench),
            false => skip("neither root nor user namespaces"),
        }
    }

    fn install(&self, agent: &str) {
        let script = self.directory.join("agent.sh");
        fs::write(&script, agent).unwrap();
        // By a process of its own: were a program open for writing here while another test starts one, that one would
        // hold it open, and it could not be executed ("text file busy").
        let programs = [
            (script.to_str().unwrap(), "selvedge-agent"),
            (env!("CARGO_BIN_EXE_selvedgectl"), "selvedgectl"),
        ];
        for (from, name) in programs {
            let to = self.directory.join(name);
            assert!(Command::new("install").args(["-m", "755", from]).arg(to).status().unwrap().success());
        }
    }

    fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// `selvedgectl lab` with the words of a line. All processes that come of it bear the bench's name.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.directory.join("selvedgectl"));
        command.arg("lab").args(line.split(' ')).env("LAB_TEST", &self.directory).stdin(Stdio::null());
        if !line.contains(" -- ") {
            command.arg("--state-dir").arg(self.state());
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn lab(&self, line: &str) -> (Option<i32>, String) {
        said(&self.command(line).output().unwrap())
    }

    /// The same, for what is to work: why it didn't is told.
    fn succeeds(&self, line: &str) {
        let (code, text) = self.lab(line);
        assert_eq!(code, Some(0), "{line}: {text}");
    }

    /// `lab exec` of a shell command line at a place.
    fn exec(&self, place: &str, script: &str) -> (Option<i32>, String) {
        let mut command = self.command("exec");
        said(&command.arg(place).args(["--", "sh", "-c", script]).output().unwrap())
    }

    /// Starts a line that goes on, and waits until the lab has started its agents.
    fn start(&self, line: &str) -> Child {
        let mut command = self.command(line);
        let front = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.wait(|processes| processes.iter().any(|(_, command)| command.starts_with("sleep")));
        front
    }

    /// The processes of the lab, with their command lines.
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("LAB_TEST={}\0", self.directory.display());
        let text = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let ours = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let marked = text(entry.path().join("environ")).contains(&mark);
            marked.then(|| (pid, text(entry.path().join("cmdline")).replace('\0', " ")))
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(ours).collect()
    }

    /// Waits for something to be true of the processes.
    fn wait(&self, until: impl Fn(&[(i32, String)]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !until(&self.processes()) {
            assert!(Instant::now() < deadline, "still: {:?}", self.processes());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_until_gone(&self) {
        self.wait(<[_]>::is_empty);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.lab("down");
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// The exit code and all that was printed.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The links and the mounts that the test's own namespaces have.
fn host() -> (Vec<String>, String) {
    let links = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut links: Vec<String> = links.map(|link| link.file_name().to_string_lossy().into_owned()).collect();
    links.sort();
    (links, fs::read_to_string("/proc/self/mountinfo").unwrap())
}

fn stand_enter_and_go(bench: &Bench) {
    let before = host();
    let (code, text) = bench.lab("up --pods 0 --nodes 2");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("lab: 2 nodes, 0 pods, attach routed, transport auto, IPv4 and IPv6 "),
        "{text}"
    );
    assert_eq!(host(), before, "something was made on the host");

    let (code, text) = bench.lab("up --pods 0");
    assert_eq!(code, Some(1));
    assert!(text.contains("a lab stands already"), "{text}");
    let (code, text) = bench.lab("status");
    assert_eq!(code, Some(0));
    assert!(text.contains("node-b    172.30.0.12, fd00:30::12    agent running"), "{text}");
    let (code, text) = bench.lab("status --json");
    assert!(code == Some(0) && text.contains("\"name\": \"node-b\""), "{text}");
    assert_eq!(bench.lab("matrix"), (Some(0), "0 of 0 paths as expected.\n".to_owned()));

    // The script that stands for the agent has no socket: what counts is where it is looked for.
    let (code, text) = bench.exec("node-b", "selvedgectl status");
    assert_eq!(code, Some(2));
    assert!(text.contains("no agent answers at \"/run/selvedge-lab/node-b/run/agent.sock\""), "{text}");
    assert_eq!(bench.exec("node-b", "exit 7").0, Some(7));
    assert_eq!(bench.exec("node-b", "kill -9 $$").0, Some(137));
    let (_, links) = bench.exec("segment", "cut -d: -f1 /proc/net/dev");
    assert!(["node-a", "node-b", "router"].iter().all(|link| links.contains(link)), "{links}");
    assert_eq!(bench.exec("router", "cat /proc/sys/net/ipv4/ip_forward").1, "1\n");
    assert_eq!(bench.exec("outside", "echo $$").0, Some(0));
    let (code, text) = bench.exec("node-c", "true");
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no \"node-c\" in the lab; there are node-a, node-b, router"), "{text}");

    assert_eq!(bench.lab("down"), (Some(0), "lab: down\n".to_owned()));
    // The process that waited for the lab's first may take a moment longer.
    bench.wait_until_gone();
    assert!(!bench.state().exists(), "the state directory was left");
    assert_eq!(host(), before);
    let (code, text) = bench.lab("status");
    assert_eq!(code, Some(1));
    assert!(text.contains("no lab stands: `selvedgectl lab up` makes one"), "{text}");
}

#[test]
fn a_lab_stands_is_entered_and_goes() {
    let Some(bench) = Bench::new("stand", AGENT) else { return };
    stand_enter_and_go(&bench);
}

#[test]
fn an_ordinary_user_has_the_same_lab_through_a_user_namespace() {
    if !geteuid().is_root() {
        return; // The test before was it.
    }
    let Some(mut bench) = Bench::new("user", AGENT) else { return };
    std::os::unix::fs::chown(&bench.directory, Some(65534), Some(65534)).unwrap();
    bench.user = Some(65534);
    let (code, text) = bench.lab("run --pods 0");
    if code != Some(0) && text.contains("user namespace") {
        return skip(&text).unwrap_or_default();
    }
    assert_eq!(code, Some(0), "{text}");
    stand_enter_and_go(&bench);
}

#[test]
fn a_command_in_the_lab_ends_with_the_lab() {
    let Some(bench) = Bench::new("ends", AGENT) else { return };
    bench.succeeds("up --pods 0 --nodes 1");
    let mut command = bench.command("exec");
    let mut inside = command.args(["node-a", "--", "sleep", "999"]).spawn().unwrap();
    bench.wait(|processes| processes.iter().any(|(_, command)| command.starts_with("sleep 999")));
    bench.succeeds("down");
    assert_eq!(inside.wait().unwrap().code(), Some(137));
}

#[test]
fn nothing_is_left_of_a_run_that_is_killed_or_interrupted() {
    let Some(bench) = Bench::new("killed", SLOW_AGENT) else { return };
    let before = host();
    for (signal, group) in [(Signal::KILL, false), (Signal::TERM, false), (Signal::INT, true)] {
        let mut front = bench.start("run");
        let kill = if group { kill_process_group } else { kill_process };
        kill(pid_of(&front), signal).unwrap();
        front.wait().unwrap();
        bench.wait_until_gone();
        assert_eq!(host(), before, "after {signal:?}");
    }
}

#[test]
fn nothing_is_left_of_an_up_that_is_killed_while_it_builds() {
    let Some(bench) = Bench::new("early", SLOW_AGENT) else { return };
    let mut front = bench.start("up");
    kill_process(pid_of(&front), Signal::KILL).unwrap();
    front.wait().unwrap();
    bench.wait_until_gone();
    assert!(bench.lab("status").1.contains("no lab stands"));
    bench.install(AGENT);
    bench.succeeds("up --pods 0");
}

#[test]
fn a_standing_lab_that_was_killed_is_recognised_and_its_state_removed() {
    let Some(bench) = Bench::new("stale", AGENT) else { return };
    for end in [" lab supervise ", " lab supervise --inside "] {
        bench.succeeds("up --pods 0");
        let (pid, _) = bench.processes().into_iter().find(|(_, command)| command.ends_with(end)).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        bench.wait_until_gone();
        for verb in ["matrix", "down", "status"] {
            let (code, text) = bench.lab(verb);
            assert_eq!((code, text.contains("no lab stands")), (Some(1), true), "{verb}: {text}");
        }
        assert!(!bench.state().exists(), "the dead lab's state is still there");
    }
}

#[test]
fn a_dead_labs_state_is_no_obstacle_to_the_next() {
    let Some(bench) = Bench::new("next", AGENT) else { return };
    bench.succeeds("up --pods 0");
    let (pid, _) = bench.processes().into_iter().find(|(_, command)| command.contains("--inside")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    bench.wait_until_gone();
    bench.succeeds("up --pods 0");
}

#[test]
fn where_user_namespaces_are_forbidden_the_way_out_is_named() {
    let Some(bench) = Bench::new("forbidden", AGENT) else { return };
    let limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \
                 --ambient-caps=-all \"$0\" lab run --pods 0";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", limit]).arg(bench.directory.join("selvedgectl"));
    let Ok(output) = command.output() else { return skip("no unshare(1)").unwrap_or_default() };
    let (code, text) = said(&output);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("as root, type `sysctl -w user.max_user_namespaces=10000`"), "{text}");
}

#[test]
fn an_agent_that_dies_is_told_with_its_last_words() {
    let Some(bench) = Bench::new("dead", "#!/bin/sh\necho no such cluster; exit 3\n") else { return };
    let (code, text) = bench.lab("run");
    assert_eq!(code, Some(1));
    assert!(text.contains("the agent of node-a ended (exit status: 3) before it wrote a conflist"), "{text}");
    assert!(text.ends_with("\n  no such cluster\n"), "{text}");
    bench.install(&AGENT.replace("exec sleep 1000", "sleep 0.2; echo farewell; exit 4"));
    bench.succeeds("up --pods 0 --nodes 1");
    bench.wait(|processes| !processes.iter().any(|(_, command)| command.starts_with("/bin/sh")));
    let (code, text) = bench.lab("status");
    assert_eq!(code, Some(1));
    assert!(text.contains("agent DEAD (exit status: 4)") && text.contains("  farewell"), "{text}");
}

#[test]
fn a_lab_without_its_programs_says_where_it_looked() {
    let Some(bench) = Bench::new("missing", AGENT) else { return };
    let (code, text) = bench.lab("run --bin-dir /nowhere");
    assert_eq!(code, Some(1));
    assert!(text.contains("start \"/nowhere/selvedge-agent\" on node-a"), "{text}");
}

#[test]
fn flags_that_no_lab_can_have_are_refused_before_anything_is_made() {
    let cases = [
        ("run --nodes 0", "'0' for '--nodes <N>': \"0\" is not a number from 1 to 50"),
        ("up --pods 101", "'101' for '--pods <N>': \"101\" is not a number from 0 to 100"),
        ("run --attach vlan", "[possible values: routed, bridge]"),
        ("run --transport ipip", "[possible values: auto, direct, vxlan, wireguard, udp, native]"),
        ("run --segments 3", "'3' for '--segments <N>': \"3\" is not a number from 1 to 2"),
        ("up --mtu 1279", "'1279' for '--mtu <BYTES>': \"1279\" is not a number from 1280 to 9000"),
        ("run --block udp/53,esp", "'esp' for '--block <PROTOCOL/PORT>': \"esp\" is no protocol and port"),
        ("run --loss 51", "'51' for '--loss <PERCENT>': \"51\" is not a number from 0 to 50"),
        ("run --family 4", "[possible values: ipv4, ipv6, dual]"),
    ];
    for (line, complaint) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedgectl"));
        let (code, text) = said(&command.arg("lab").args(line.split(' ')).output().unwrap());
        assert_eq!(code, Some(2), "{line}");
        assert!(text.contains(complaint), "{line}: {text}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedgectl"));
    let (code, text) =
        said(&command.args(["lab", "run", "--nodes", "50", "--pods", "100"]).output().unwrap());
    assert_eq!((code, text.contains("take fewer pods")), (Some(1), true), "{text}");
}

#[test]
fn what_else_is_in_the_state_directory_survives_every_end_of_a_lab() {
    let Some(bench) = Bench::new("foreign", "#!/bin/sh\nexit 3\n") else { return };
    fs::create_dir_all(bench.state().join("thesis")).unwrap();
    fs::write(bench.state().join("thesis/draft"), "years of work").unwrap();
    let alone = |after: &str| {
        let entries = fs::read_dir(bench.state()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(entries.collect::<Vec<_>>(), ["thesis"], "after {after}");
        assert_eq!(fs::read_to_string(bench.state().join("thesis/draft")).unwrap(), "years of work");
    };
    let (code, text) = bench.lab("up --pods 0 --nodes 1");
    assert_eq!(code, Some(1), "{text}");
    alone("a failing up");
    bench.install(AGENT);
    bench.succeeds("up --pods 0 --nodes 1");
    bench.succeeds("down");
    alone("down");
    bench.succeeds("up --pods 0 --nodes 1");
    let (pid, _) = bench.processes().into_iter().find(|(_, command)| command.contains("--inside")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    bench.wait_until_gone();
    assert_eq!(bench.lab("status").0, Some(1));
    alone("a killed lab");
}

#[test]
fn a_full_disk_is_told_with_what_was_to_be_written() {
    let Some(bench) = Bench::new("full", AGENT) else { return };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, text) = said(&bench.command("run --pods 0 --nodes 1").stdout(full).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(
        text.contains("selvedgectl: write the matrix to standard output: No space left on device"),
        "{text}"
    );
}
