//! What a test needs around cnitool: a node, containers, folders of its own instead of the machine's, and a record of
//! what it said to the plugin.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use selvedge_netns::Namespace;
use selvedge_tests::{Pod, Stage, Traces, bin_dir, client, skipped};
use serde_json::{Value, json};

/// The Debian suite that a program is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// The specification up to 1.0.0.
    Bookworm,
    /// Also 1.1.0: status and gc.
    Sid,
}

/// cnitool, its configurations and its caches, on a node.
#[derive(Debug)]
pub(crate) struct Cnitool {
    stage: Stage,
    program: PathBuf,
    plugins: Vec<PathBuf>,
}

/// A container, known to cnitool by the path of its namespace.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
    pod: Option<Pod>,
    variables: Vec<(String, String)>,
}

/// How a run of cnitool ended.
#[derive(Debug)]
pub(crate) struct Said {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

/// What is on a node and in cnitool's folders: the leak oracle.
#[derive(Debug)]
pub(crate) struct Footprint {
    node: Traces,
    files: BTreeSet<PathBuf>,
}

impl Suite {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Sid];

    /// The suite's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Sid => "sid",
        }
    }

    /// The newest version of the protocol that its programs speak.
    pub(crate) fn newest(self) -> &'static str {
        match self {
            Self::Bookworm => "1.0.0",
            Self::Sid => "1.1.0",
        }
    }
}

impl Cnitool {
    /// cnitool of a suite. `None` where it or a node can't be had, which has been said.
    pub(crate) fn of(suite: Suite) -> Option<Self> {
        let Some(program) = client(&format!("cnitool/{}/cnitool", suite.name())) else {
            skipped("cnitool could not be built");
            return None;
        };
        let version = fs::read_to_string(program.with_extension("version")).unwrap();
        println!("cnitool {} of Debian {}", version.trim(), suite.name());
        let stage = Stage::new()?;
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            skipped("mount namespaces need root and unshare of util-linux");
            return None;
        }
        for folder in ["var-lib", "run", "net.d", "netns", "said", "recorder"] {
            fs::create_dir_all(stage.folder().join(folder)).unwrap();
        }
        let recorder = stage.folder().join("recorder");
        let tool = Self { stage, program, plugins: vec![recorder, bin_dir()] };
        tool.record();
        Some(tool)
    }

    /// Puts a script in ours' place that keeps what goes in and out, for each verb the last.
    fn record(&self) {
        let (said, real) = (self.said(), bin_dir().join("selvedge"));
        let (said, real) = (said.display(), real.display());
        let script = format!(
            "#!/bin/sh\n\
             base={said}/$CNI_COMMAND\n\
             cat > $base.stdin\n\
             env > $base.environment\n\
             {real} < $base.stdin > $base.stdout\n\
             code=$?\n\
             cat $base.stdout\n\
             exit $code\n"
        );
        self.plugin("selvedge", &script);
    }

    /// Puts a script where cnitool looks for plugins first.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        let path = self.stage.folder().join("recorder").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The same, looking for plugins here as well.
    pub(crate) fn looking_in(mut self, folder: &Path) -> Self {
        self.plugins.push(folder.to_owned());
        self
    }

    /// The node.
    pub(crate) fn node(&self) -> &Namespace {
        self.stage.node()
    }

    /// A folder of its own that is its /var/lib: the cache is in `cni`.
    pub(crate) fn var_lib(&self) -> PathBuf {
        self.stage.folder().join("var-lib")
    }

    /// Where our plugin keeps its leases.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.stage.folder().join("run/selvedge")
    }

    fn said(&self) -> PathBuf {
        self.stage.folder().join("said")
    }

    /// Our own part of a configuration, with pods attached in this way and in both families.
    pub(crate) fn ours(&self, attach: &str) -> Value {
        json!({
            "type": "selvedge",
            "attach": attach,
            "network": ["10.244.0.0/16", "fd00:10:244::/48"],
            "subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        })
    }

    /// Configures a network `mynet` of these plugins, in this version of the protocol.
    pub(crate) fn configure(&self, version: &str, plugins: &[Value]) {
        let list = json!({"cniVersion": version, "name": "mynet", "plugins": plugins});
        fs::write(self.stage.folder().join("net.d/10-mynet.conflist"), list.to_string()).unwrap();
    }

    /// A new container.
    pub(crate) fn container(&self, name: &str) -> Container {
        let (path, pod) = (self.stage.folder().join("netns").join(name), self.stage.pod());
        symlink(pod.path(), &path).unwrap();
        Container { path, pod: Some(pod), variables: Vec::new() }
    }

    /// Runs cnitool with this verb on the network `mynet` for a container.
    pub(crate) fn run(&self, verb: &str, container: &Container) -> Said {
        let here = self.stage.folder();
        let path = self.plugins.iter().map(|folder| folder.display().to_string());
        let run = || {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation", "private", "sh", "-ec"])
                .arg(r#"mount --bind "$1/var-lib" /var/lib; mount --bind "$1/run" /run; shift; exec "$@""#)
                .args(["sh".as_ref(), here.as_os_str(), self.program.as_os_str()])
                .args([verb, "mynet"])
                .arg(&container.path)
                .env_clear()
                .env("PATH", env::var_os("PATH").unwrap_or_default())
                .env("NETCONFPATH", here.join("net.d"))
                .env("CNI_PATH", path.collect::<Vec<_>>().join(":"))
                .envs(container.variables.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null());
            command.output()
        };
        let output = self.node().run(run).unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Adds a container, which must succeed; the result as cnitool understood it.
    pub(crate) fn add(&self, container: &Container) -> Value {
        let said = self.run("add", container);
        assert!(said.succeeded, "{}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap()
    }

    /// What our plugin answered to this verb when it was last asked; nothing if it never was.
    pub(crate) fn answered(&self, verb: &str) -> Option<Value> {
        let answer = fs::read_to_string(self.said().join(format!("{verb}.stdout"))).ok()?;
        (!answer.is_empty()).then(|| serde_json::from_str(&answer).unwrap())
    }

    /// The configuration that our plugin was last handed with this verb.
    pub(crate) fn handed(&self, verb: &str) -> Value {
        let stdin = fs::read_to_string(self.said().join(format!("{verb}.stdin"))).unwrap();
        serde_json::from_str(&stdin).unwrap()
    }

    /// True if our plugin was ever asked this.
    pub(crate) fn was_asked(&self, verb: &str) -> bool {
        self.said().join(format!("{verb}.stdin")).exists()
    }

    /// Loses what cnitool remembers of earlier calls.
    pub(crate) fn lose_cache(&self) {
        let results = self.var_lib().join("cni/results");
        assert!(fs::read_dir(&results).unwrap().next().is_some(), "nothing was cached");
        fs::remove_dir_all(results).unwrap();
    }

    /// What there is now.
    pub(crate) fn footprint(&self) -> Footprint {
        let mut files = BTreeSet::new();
        collect(&self.var_lib(), &mut files);
        Footprint { node: Traces::on(self.node(), &self.run_dir()), files }
    }

    /// Fails unless everything is as it was.
    pub(crate) fn must_be_back(&self, before: &Footprint) {
        before.node.must_be_back_on(self.node(), &self.run_dir());
        assert_eq!(self.footprint().files, before.files);
    }
}

impl Container {
    /// The same, with a variable set for cnitool.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The path that cnitool knows it by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.pod.as_ref().unwrap().namespace()
    }

    /// Ends it; what still names it finds nothing. The kernel takes its links away in its own time.
    pub(crate) fn end(&mut self) {
        self.pod = None;
        fs::remove_file(&self.path).unwrap();
    }
}

impl Said {
    /// True if it succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// A run that must have succeeded without a word.
    pub(crate) fn done(&self) {
        assert!(self.succeeded && self.stdout.is_empty(), "{self:?}");
    }

    /// What a run that must have failed gave as the reason.
    pub(crate) fn reason(&self) -> &str {
        assert!(!self.succeeded && self.stdout.is_empty(), "{self:?}");
        self.stderr.lines().last().unwrap_or_default()
    }
}

/// The files below a folder. Those that host-local keeps for good say nothing of any container.
fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, into);
        } else if name != "lock" && !name.starts_with("last_reserved_ip") {
            into.insert(path);
        }
    }
}
