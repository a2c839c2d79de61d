//! Whom a statement is put to: ours, or the reference plugins, each on a node of its own.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{Call, FakeIpam, Pod, Running, Stage, program, skipped};
use serde_json::{Value, json};

use crate::config::with;
use crate::statements::reply::{Reply, Unmet};
use crate::statements::state::State;

/// Where Debian puts the reference plugins.
pub(crate) const REFERENCE: &str = "/usr/lib/cni";

/// How long what ours has set aside may take to be gone on a busy machine; the reference plugins set nothing aside.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const REFERENCE_GONE_WITHIN: Duration = Duration::from_secs(1);

/// How long a node may take to be the same twice.
const RESTS_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    Theirs,
}

/// A plugin on a fresh node.
pub(crate) struct Subject {
    whose: Whose,
    stage: Stage,
    /// A pod lives as long as its subject: what is left for it must not go with its namespace.
    pods: RefCell<Vec<Rc<Pod>>>,
    /// What is different.
    found: Rc<RefCell<Vec<String>>>,
    /// What was called and what came back, for whoever reads a failed test.
    said: Rc<RefCell<String>>,
}

/// A call in the making.
pub(crate) struct Ask<'a> {
    on: &'a Subject,
    verb: &'static str,
    call: Call,
}

/// A call that nobody has waited for yet.
pub(crate) struct Asked<'a> {
    on: &'a Subject,
    verb: &'static str,
    pub(crate) running: Running,
}

impl Subject {
    /// Ours. `None` where no node can be made, which has been said.
    pub(crate) fn ours() -> Option<Self> {
        Self::on_a_fresh_node(Whose::Ours)
    }

    /// `bridge` with `host-local`. `None` where they are not installed, which has been said.
    pub(crate) fn theirs() -> Option<Self> {
        if !["bridge", "host-local"].iter().all(|plugin| Path::new(REFERENCE).join(plugin).is_file()) {
            skipped("the reference CNI plugins are not installed");
            return None;
        }
        Self::on_a_fresh_node(Whose::Theirs)
    }

    fn on_a_fresh_node(whose: Whose) -> Option<Self> {
        let stage = Stage::new()?;
        Some(Self { whose, stage, pods: RefCell::default(), found: Rc::default(), said: Rc::default() })
    }

    /// The same plugin on another fresh node; what is found there counts like what is found here.
    pub(crate) fn anew(&self) -> Self {
        let (found, said) = (Rc::clone(&self.found), Rc::clone(&self.said));
        let stage = Stage::new().expect("one could be made before");
        Self { whose: self.whose, stage, pods: RefCell::default(), found, said }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.whose == Whose::Ours
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// A pod's namespace, which is there until [`forget_pods`](Self::forget_pods).
    pub(crate) fn pod(&self) -> Rc<Pod> {
        let pod = Rc::new(self.stage.pod());
        self.pods.borrow_mut().push(Rc::clone(&pod));
        pod
    }

    /// Lets the namespaces of all pods go that nobody else holds.
    pub(crate) fn forget_pods(&self) {
        self.pods.borrow_mut().clear();
    }

    /// Puts down what is different unless the condition holds.
    pub(crate) fn must(&self, holds: bool, else_what: impl Into<String>) {
        let what = else_what.into();
        if !holds && !self.found.borrow().contains(&what) {
            self.found.borrow_mut().push(what);
        }
    }

    /// Puts down what is different, and goes on.
    pub(crate) fn note<T>(&self, checked: Result<T, Unmet>, when: &str) {
        if let Err(Unmet::Differs(why)) = checked {
            self.must(false, if when.is_empty() { why } else { format!("{when}: {why}") });
        }
    }

    pub(crate) fn found(&self) -> Vec<String> {
        self.found.borrow().clone()
    }

    pub(crate) fn transcript(&self) -> String {
        self.said.borrow().clone()
    }

    /// A bridge with addresses of 10.244.1.0/24 and masquerading, in the newest version that the plugin speaks.
    pub(crate) fn config(&self) -> Value {
        let config = match self.whose {
            Whose::Ours => json!({"cniVersion": "1.1.0", "type": "selvedge", "network": "10.244.0.0/16",
                "runDir": self.stage.folder()}),
            Whose::Theirs => {
                json!({"cniVersion": "1.0.0", "type": "bridge", "isGateway": true, "ipMasq": true})
            }
        };
        self.in_subnets(&with(config, json!({"name": "mynet", "bridge": "cni0"})), &["10.244.1.0/24"])
    }

    /// The versions that the plugin speaks.
    pub(crate) fn versions(&self) -> &'static [&'static str] {
        const ALL: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        if self.is_ours() { &ALL } else { &ALL[..6] }
    }

    /// The configuration with more keys.
    pub(crate) fn config_with(&self, more: Value) -> Value {
        with(self.config(), more)
    }

    /// The configuration in another version of the protocol.
    pub(crate) fn in_version(&self, version: &str) -> Value {
        self.config_with(json!({"cniVersion": version}))
    }

    /// The configuration with an address of each of these subnets.
    pub(crate) fn in_subnets(&self, config: &Value, subnets: &[&str]) -> Value {
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        let default = |subnet: &&str| json!({"dst": if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" }});
        let routes: Vec<_> = subnets.iter().map(default).collect();
        let own = match self.whose {
            Whose::Ours => json!({"subnet": subnets}),
            Whose::Theirs => json!({"ipam": {"type": "host-local", "ranges": ranges, "routes": routes,
                "dataDir": self.data()}}),
        };
        with(config.clone(), own)
    }

    /// The configuration with another plugin for addresses.
    pub(crate) fn delegating(&self, plugin: &str) -> Value {
        self.config_with(json!({"subnet": null, "ipam": {"type": plugin}}))
    }

    /// A call as a runtime makes it, with whatever `PATH` a runtime has.
    pub(crate) fn ask(&self, verb: &'static str, config: &Value) -> Ask<'_> {
        let call = Call::new(verb, config.clone());
        let call = match self.whose {
            Whose::Ours => call,
            Whose::Theirs => call.by(&self.program("bridge")).with("CNI_PATH", REFERENCE),
        };
        Ask { on: self, verb, call: call.with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") }
    }

    /// The path of a plugin; of ours there is only one.
    pub(crate) fn program(&self, theirs: &str) -> PathBuf {
        match self.whose {
            Whose::Ours => program("selvedge"),
            Whose::Theirs => Path::new(REFERENCE).join(theirs),
        }
    }

    /// Attaches a container, which must succeed; the result.
    pub(crate) fn add(&self, config: &Value, container: &str, pod: &Pod) -> Result<Value, Unmet> {
        self.ask("ADD", config).of(container, pod).run().result()
    }

    /// Detaches a container, as a runtime that has kept nothing.
    pub(crate) fn del(&self, config: &Value, container: &str, pod: &Pod) -> Reply {
        self.ask("DEL", config).of(container, pod).run()
    }

    /// Checks a container; the configuration has what ADD answered.
    pub(crate) fn check(&self, config: &Value, container: &str, pod: &Pod) -> Reply {
        self.ask("CHECK", config).of(container, pod).run()
    }

    pub(crate) fn state(&self) -> State {
        State::of(&self.stage, &self.data())
    }

    /// The state once a first container has come and gone: what a network keeps for its node is there.
    pub(crate) fn settled(&self) -> Result<State, Unmet> {
        self.settled_with(&self.config())
    }

    /// The same of another configuration.
    pub(crate) fn settled_with(&self, config: &Value) -> Result<State, Unmet> {
        let pod = self.pod();
        self.add(config, "first", &pod)?;
        self.del(config, "first", &pod).done()?;
        Ok(self.at_rest())
    }

    /// The state once nothing changes by itself any more.
    pub(crate) fn at_rest(&self) -> State {
        let until = Instant::now() + RESTS_WITHIN;
        let mut state = self.state();
        loop {
            assert!(Instant::now() < until, "the node does not come to rest: {state:?}");
            thread::sleep(Duration::from_millis(20));
            let now = self.state();
            // A link that is set aside is about to be deleted.
            if now == state && !now.has(&["link slvr"]) {
                return state;
            }
            state = now;
        }
    }

    /// Puts down what there is more or less than before, given some time.
    pub(crate) fn must_be_as(&self, before: &State, when: &str) {
        let until = Instant::now() + if self.is_ours() { GONE_WITHIN } else { REFERENCE_GONE_WITHIN };
        loop {
            // The time is read first: whoever was kept from looking gets another look.
            let late = Instant::now() > until;
            let now = self.state();
            if now == *before {
                return;
            }
            if late {
                let what = before.differences_to(&now).join(" and ");
                self.must(false, format!("{when}, {what}"));
                self.said.borrow_mut().push_str(&before.lines_to(&now));
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes the store of reservations, as somebody who cleans up would.
    pub(crate) fn lose_reservations(&self) {
        let store = if self.is_ours() { self.stage.folder().join("ipam") } else { self.data() };
        fs::remove_dir_all(&store).unwrap_or_else(|error| panic!("remove {store:?}: {error}"));
    }

    /// Where the reference keeps its reservations.
    pub(crate) fn data(&self) -> PathBuf {
        self.stage.folder().join("host-local")
    }
}

impl<'a> Ask<'a> {
    /// The same for a container's interface `eth0` in a pod.
    pub(crate) fn of(self, container: &str, pod: &Pod) -> Self {
        Self { call: self.call.of(container, pod), ..self }
    }

    /// The same with a variable set.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        Self { call: self.call.with(name, value), ..self }
    }

    /// The same without a variable.
    pub(crate) fn without(self, name: &str) -> Self {
        Self { call: self.call.without(name), ..self }
    }

    /// The same with other bytes on stdin.
    pub(crate) fn saying(self, stdin: impl Into<Vec<u8>>) -> Self {
        Self { call: self.call.saying(stdin), ..self }
    }

    /// The same of another plugin.
    pub(crate) fn by(self, program: &Path) -> Self {
        Self { call: self.call.by(program), ..self }
    }

    /// The same with other plugins found in a fake's folder.
    pub(crate) fn finding(self, ipam: &FakeIpam) -> Self {
        self.with("CNI_PATH", &ipam.path())
    }

    /// Makes the call.
    pub(crate) fn start(self) -> Asked<'a> {
        Asked { on: self.on, verb: self.verb, running: self.call.start(self.on.stage.node()) }
    }

    /// Makes the call and waits for its end.
    pub(crate) fn run(self) -> Reply {
        self.start().reply()
    }
}

impl Asked<'_> {
    /// Waits for the end.
    pub(crate) fn reply(self) -> Reply {
        let reply = Reply::new(self.verb, &self.running.output());
        let line = format!("{} -> {:?} {} {}\n", self.verb, reply.code, reply.stdout, reply.stderr);
        self.on.said.borrow_mut().push_str(&line);
        reply
    }
}
