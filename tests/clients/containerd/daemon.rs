//! containerd of a release of Debian on a machine of its own, with our plugin as its network.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use selvedge_tests::{Machine, Ran, Traces, client, program, skipped, within};
use serde_json::{Value, json};

use super::cri::Cri;
use super::took;

/// The image that is everything here: sandbox and container.
pub(crate) const IMAGE: &str = "selvedge.test/pause:1";

/// Where containerd looks for networks.
pub(crate) const CONFLIST: &str = "/etc/cni/net.d/10-selvedge.conflist";

const SOCKET: &str = "/run/containerd.sock";

/// A release of containerd that Debian has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// The folders of its programs.
    path: String,
    busybox: PathBuf,
    /// Its version, `1.6.20~ds1-1+deb12u3`.
    pub(crate) version: String,
}

/// The releases that are here; that one isn't has been said.
pub(crate) fn releases() -> Vec<Release> {
    let found = ["bookworm", "sid"].map(|suite| {
        Release::of(suite).or_else(|| {
            skipped("containerd could not be unpacked");
            None
        })
    });
    found.into_iter().flatten().collect()
}

impl Release {
    fn of(suite: &str) -> Option<Self> {
        let folder = client(&format!("containerd/{suite}"))?;
        let stable = client("containerd/bookworm")?;
        let version = fs::read_to_string(folder.join("containerd.version")).ok()?.trim().to_owned();
        let path = format!("{}/usr/bin:{}/usr/sbin:/usr/sbin:/usr/bin", folder.display(), stable.display());
        Some(Self { path, busybox: stable.join("bin/busybox"), version })
    }

    fn config(&self) -> &'static str {
        if self.is_2() { include_str!("config-2.toml") } else { include_str!("config-1.toml") }
    }

    /// Whether it is of the second generation, which asks the plugin for its STATUS.
    pub(crate) fn is_2(&self) -> bool {
        self.version.starts_with("2.")
    }
}

/// A containerd, killed with its machine when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) release: Release,
    pub(crate) machine: Machine,
    running: Child,
    /// What was on the machine before any pod.
    before: Remains,
}

/// What pods can leave.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    traces: Traces,
    /// libcni's results, and namespaces.
    files: BTreeSet<PathBuf>,
}

impl Daemon {
    /// Starts one whose network is this conflist. `None` if this user may not, which has been said.
    pub(crate) fn start(release: Release, conflist: &Value) -> Option<Self> {
        let machine = Machine::boot()?;
        let recorder = include_bytes!("recorder.sh");
        machine.write("/opt/cni/bin/recorder", recorder);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(machine.path("/opt/cni/bin/recorder"), executable).unwrap();
        machine.install(&program("selvedge"), "/opt/cni/bin");
        machine.install(Path::new("/usr/lib/cni/loopback"), "/opt/cni/bin");
        machine.write(CONFLIST, conflist.to_string());
        machine.write("/run/containerd.toml", release.config());
        let before = Remains::on(&machine);
        let running = run(&machine, &release);
        let daemon = Self { release, machine, running, before };
        daemon.import();
        Some(daemon)
    }

    /// A connection as the kubelet's, once it answers.
    pub(crate) fn cri(&self) -> Cri {
        Cri::connect(&self.machine.path(SOCKET))
    }

    /// Runs `ctr` with these arguments.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command("ctr");
        command.env("PATH", &self.release.path).args(["--address", SOCKET]).args(arguments);
        command
    }

    /// Kills it, as kill -9 does. What it has started stays.
    pub(crate) fn kill(&mut self) {
        let pid = fs::read_to_string(self.machine.path("/run/containerd.pid")).unwrap();
        self.machine.kill(pid.trim().parse().unwrap());
        self.running.wait().unwrap();
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self) {
        self.running = run(&self.machine, &self.release);
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.machine.path("/run/containerd.log")).unwrap_or_default()
    }

    /// How long the plugin took for each call of a verb, by its own log, which containerd has of those that succeed.
    pub(crate) fn took(&self, verb: &str) -> Vec<Duration> {
        took(&self.log(), verb)
    }

    /// The plugin's state.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.machine.path("/run/selvedge")
    }

    /// Fails if pods have left anything.
    pub(crate) fn nothing_is_left(&self) {
        self.before.traces.must_be_back_on(self.machine.node(), &self.run_dir());
        within(20.0, "containerd has removed its files", || {
            let files = Remains::files(&self.machine);
            if files == self.before.files { Ok(()) } else { Err(format!("{files:?}")) }
        });
    }

    /// Takes what is on the machine now for what must be there in the end.
    pub(crate) fn remember(&mut self) {
        self.before = Remains::on(&self.machine);
    }

    fn import(&self) {
        let image = self.machine.path("/run/image");
        fs::create_dir_all(&image).unwrap();
        let script = include_str!("image.sh");
        let busybox = self.release.busybox.display().to_string();
        self.machine.run("sh", &["-c", script, "image.sh", &busybox, "/run/image"]).must_succeed();
        drop(self.cri());
        for namespace in ["default", "k8s.io"] {
            let mut import = self.ctr(&["--namespace", namespace, "images", "import"]);
            // Otherwise the daemon unpacks, for the platforms and snapshotters of another plugin's configuration.
            import.args(self.release.is_2().then_some("--local"));
            Ran::of(import.args(["--snapshotter", "native", "/run/image/image.tar"])).must_succeed();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("containerd {}:\n{}", self.release.version, self.log());
        }
    }
}

impl Remains {
    fn on(machine: &Machine) -> Self {
        let traces = Traces::on(machine.node(), &machine.path("/run/selvedge"));
        Self { traces, files: Self::files(machine) }
    }

    fn files(machine: &Machine) -> BTreeSet<PathBuf> {
        let folders = ["/var/lib/cni/results", "/run/netns"].map(|folder| machine.path(folder));
        let entries = folders.into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// A network of ours as hand-written, routed, of both families, with more or other keys of the plugin.
pub(crate) fn routed(plugin: &Value) -> Value {
    let mut ours = json!({
        "type": "recorder", "attach": "routed", "subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]
    });
    for (key, value) in plugin.as_object().unwrap() {
        ours[key] = value.clone();
    }
    json!({"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "selvedge", "plugins": [ours]})
}

fn run(machine: &Machine, release: &Release) -> Child {
    let line =
        "echo $$ >/run/containerd.pid; exec containerd -c /run/containerd.toml >>/run/containerd.log 2>&1";
    let mut command = machine.command("sh");
    command.args(["-c", line]).env_clear().env("PATH", &release.path).stdin(Stdio::null());
    command.spawn().unwrap()
}
