//! A folder for one cluster, and the programs that it runs.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use std::{env, fs, io, process};

/// Says what is being done, at once: a person waits.
///
/// # Panics
/// If nobody can be told.
pub fn say(line: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let at = BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64();
    io::stderr().write_all(format!("{at:6.1} s  {line}\n").as_bytes()).unwrap();
}

/// The programs of `tests/kubernetes/get.sh`.
#[derive(Debug, Clone)]
pub struct Programs {
    kubernetes: PathBuf,
    debian: PathBuf,
}

impl Programs {
    /// Where `make kubernetes` has put them, or says that they are; `None` where there is no API server, or no etcd.
    ///
    /// # Panics
    /// If `KUBE_BIN` names a folder without them.
    pub fn find() -> Option<Self> {
        let cache = env::var_os("SELVEDGE_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/selvedge")))?;
        let cache = cache.join("kubernetes-1.20.2");
        let own = env::var_os("KUBE_BIN").map(PathBuf::from);
        if let Some(folder) = &own {
            assert!(
                folder.join("kube-apiserver").is_file(),
                "KUBE_BIN={} has no kube-apiserver",
                folder.display()
            );
        }
        let found =
            Self { kubernetes: own.unwrap_or_else(|| cache.join("bin")), debian: cache.join("debian") };
        let needed =
            [found.kubernetes("kube-apiserver"), found.kubernetes("kubectl"), found.debian("usr/bin/etcd")];
        needed.iter().all(|program| program.is_file()).then_some(found)
    }

    /// One of Kubernetes' own.
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// Which Kubernetes they are: 20 of 1.20.
    ///
    /// # Panics
    /// If the kubelet doesn't say.
    pub fn minor(&self) -> u32 {
        let version = run(Command::new(self.kubernetes("kubelet")).arg("--version"));
        let minor = version.trim().strip_prefix("Kubernetes v1.").and_then(|rest| rest.split('.').next());
        minor.and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("kubelet --version: {version}"))
    }

    /// A file of Debian's packages.
    pub fn debian(&self, path: &str) -> PathBuf {
        self.debian.join(path)
    }

    /// The search path: theirs before the machine's.
    pub fn path(&self) -> String {
        let folders = ["usr/bin", "usr/sbin"].map(|folder| self.debian(folder).display().to_string());
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folders.join(":"))
    }
}

/// A folder that every machine of a cluster sees, removed in the end, however that comes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    sweeper: Child,
}

impl Folder {
    /// A new one below the system's folder for such things.
    ///
    /// # Panics
    /// If it can't be made.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("selvedge-kubernetes-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        // Machines that are being killed may still write.
        let sweep = "cat; for try in $(seq 100); do rm -rf \"$1\"; sleep 0.1; [ -e \"$1\" ] || exit 0; done";
        let mut sweeper = Command::new("sh");
        sweeper.args(["-c", sweep, "sweep"]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::null());
        let sweeper = sweeper.stderr(Stdio::null()).process_group(0).spawn().unwrap();
        Self { path, sweeper }
    }

    /// A path in it.
    pub fn join(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// A folder in it.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn make(&self, below: &str) -> PathBuf {
        let folder = self.join(below);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The last lines of every log.
    pub fn print_logs(&self) {
        let mut logs: Vec<_> = fs::read_dir(self.join("logs")).into_iter().flatten().flatten().collect();
        logs.sort_by_key(fs::DirEntry::file_name);
        for log in logs {
            let text = fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            say(&format!("the end of {}:\n{tail}", log.file_name().display()));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        drop(self.sweeper.wait());
    }
}

/// Runs a command to its end; what it printed.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
