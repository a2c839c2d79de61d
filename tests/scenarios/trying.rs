//! What a policy would do is told before, changes nothing, and is what happens when it is applied.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::{env, fs, process};

use selvedge_tests::{Agent, Echo, Mirror, Stage, Stream, connect, program, within};
use serde_json::{Value, json};

use crate::policy::{Ground, PORT, SILENCE, exchange, is_open, only_from};
use crate::site::alone;

/// How `selvedgectl policy try` ended, and what it printed on both.
struct Told {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|why| panic!("{why}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Tries what standard input has.
fn try_out(agent: &Agent, flags: &[&str], manifest: &Value) -> Told {
    let mut command = Command::new(program("selvedgectl"));
    command.arg("--run-dir").arg(agent.socket().parent().unwrap()).args(["policy", "try"]).args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that reads nothing has ended already.
    child.stdin.take().unwrap().write_all(manifest.to_string().as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Told { code: output.status.code(), stdout, stderr }
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

fn goes_on(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    exchange(stream).is_ok()
}

#[test]
fn what_a_policy_would_close_and_cut_is_told_before_and_happens_after() {
    let _alone = alone();
    let Some(mut ground) = Ground::new() else { return };
    let (web, client, other) = (ground.pod(1, "web"), ground.pod(0, "client"), ground.pod(0, "other"));
    let (_echo, _mirror) =
        (Echo::serve(web.pod.namespace()), Mirror::serve(web.pod.namespace(), PORT, "web"));
    let (client, other) = (client.pod.namespace(), other.pod.namespace());
    let allowed: Vec<Stream> = web.addresses.iter().map(|to| Stream::open(client, *to).unwrap()).collect();
    let mut denied: Vec<TcpStream> = web.addresses.iter().map(|to| connect(other, *to).unwrap()).collect();
    denied.iter_mut().for_each(|stream| exchange(stream).unwrap());
    ["shop/client", "shop/other"].iter().for_each(|from| drop(ground.until(1, (from, "shop/web"), true)));

    let only_client = only_from("web", "client");
    let told = try_out(&ground.agents[1], &["-", "--json"], &policy("only-client", &only_client));
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let closes = json!([{
        "effect": "closes",
        "from": {"podCount": 1, "pods": ["shop/other"], "everyNode": true, "everybodyOutside": true},
        "to": {"podCount": 1, "pods": ["shop/web"]},
        "protocols": "everything",
        "why": "ingress: selected by shop/only-client; no rule of 1 policy admits it",
    }]);
    assert_eq!(told.json()["changes"], closes);
    let tracked = &told.json()["tracked"][0];
    assert_eq!(tracked["node"], ground.cluster.nodes[1].plan.name.as_str());
    let cut: Vec<&Value> = tracked["cut"].as_array().unwrap().iter().collect();
    assert!(cut.iter().all(|flow| flow["from"] == "shop/other" && flow["to"] == "shop/web"), "{cut:?}");
    for stream in &mut denied {
        let source = stream.local_addr().unwrap().to_string();
        assert!(cut.iter().any(|flow| flow["source"] == *source && flow["protocol"] == "TCP"), "{cut:?}");
        assert!(exchange(stream).is_ok(), "trying cuts nothing");
    }
    web.addresses.iter().for_each(|to| assert!(is_open(other, *to), "trying closes nothing"));

    ground.policies(&[("only-client", only_client)]);
    ground.until(1, ("shop/other", "shop/web"), false);
    assert!(denied.iter_mut().all(|stream| !goes_on(stream)), "what was told to be cut goes on");
    for to in &web.addresses {
        assert!(!is_open(other, *to) && is_open(client, *to));
    }
    assert!(allowed.into_iter().map(Stream::close).all(|numbers| numbers > 0));

    let told = try_out(&ground.agents[1], &["--delete", "shop/only-client", "--json"], &Value::Null);
    assert_eq!((told.code, &told.json()["changes"][0]["effect"]), (Some(0), &json!("opens")));
    assert_eq!(told.json()["changes"][0]["from"], closes[0]["from"]);
    assert!(web.addresses.iter().all(|to| !is_open(other, *to)), "trying opens nothing");

    let bad = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]});
    let told = try_out(&ground.agents[1], &["-"], &policy("bad", &bad));
    assert_eq!((told.code, told.stdout.as_str()), (Some(2), ""));
    assert!(told.stderr.contains("NetworkPolicy shop/bad: spec.ingress[0].ports[0].port"), "{}", told.stderr);
}

/// A lab of two nodes with a pod each, taken down when dropped.
struct Lab {
    state: PathBuf,
}

impl Lab {
    fn up() -> Self {
        let lab = Self { state: env::temp_dir().join(format!("selvedge-trying-{}", process::id())) };
        let up = lab.call(&["up", "--nodes", "2", "--pods", "1"]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        lab
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("selvedgectl"));
        command.arg("lab").arg("--state-dir").arg(&self.state).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// How `selvedgectl matrix --probe` ended on the second node, and what it printed.
    fn probed(&self) -> (Option<i32>, Value) {
        let output = self.call(&["exec", "node-b", "--", "selvedgectl", "matrix", "--probe", "--json"]);
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn nft(&self, command: &str) {
        let done = self.call(&["exec", "node-b", "--", "nft", command]);
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.call(&["down"]);
        fs::remove_dir_all(&self.state).ok();
    }
}

#[test]
fn a_rule_of_somebody_elses_is_where_the_matrix_and_packets_differ() {
    let Some(_stage) = Stage::new() else { return };
    let _alone = alone();
    let lab = Lab::up();
    let told = within(60.0, "every pod reaches every other, by packets too", || match lab.probed() {
        (Some(0), told) if told["pods"].as_array().is_some_and(|pods| pods.len() == 2) => Ok(told),
        (code, told) => Err(format!("{code:?}: {told}")),
    });
    assert!(
        told["rows"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .all(|cell| { cell["allowed"] == true && cell["measured"] == true }),
        "{told}"
    );
    let on = |node: &str| told["pods"].as_array().unwrap().iter().find(|pod| pod["node"] == *node).unwrap();
    let (from, to) = (on("node-a"), on("node-b"));
    lab.nft("add table inet somebody");
    lab.nft("add chain inet somebody drops { type filter hook forward priority 10; }");
    let [source, destination] = [from, to].map(|pod| pod["addresses"][0].as_str().unwrap());
    lab.nft(&format!(
        "add rule inet somebody drops ip saddr {source} ip daddr {destination} icmp type echo-request drop"
    ));
    let (code, told) = lab.probed();
    let differs = json!([{"from": from["name"], "to": to["name"], "allowed": true}]);
    assert_eq!((code, &told["differences"]), (Some(1), &differs), "{told}");
}
