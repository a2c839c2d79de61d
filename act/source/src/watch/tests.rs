use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use super::*;

/// A directory of manifests under watch; both go away at the end.
struct Rig {
    root: PathBuf,
    snapshots: Receiver<Snapshot>,
    watcher: Option<Watcher>,
}

impl Rig {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("selvedge-source-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("manifests")).unwrap();
        for (name, text) in files {
            fs::write(root.join("manifests").join(name), text).unwrap();
        }
        let (sender, snapshots) = mpsc::channel();
        let mut rig = Self { root, snapshots, watcher: None };
        rig.watcher = Some(spawn(&rig.directory(), forward(sender)).unwrap());
        rig
    }

    fn directory(&self) -> PathBuf {
        self.root.join("manifests")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The next snapshot's nodes and the number of its problems.
    fn next(&self) -> (Vec<String>, usize) {
        let snapshot = self.snapshots.recv_timeout(Duration::from_secs(5)).unwrap();
        (snapshot.cluster.nodes().keys().map(ToString::to_string).collect(), snapshot.problems.len())
    }

    /// Waits for a snapshot with these nodes and this number of problems; a file that is written in several steps may
    /// be seen in between.
    fn expect(&self, nodes: &[&str], problems: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut seen = self.next();
        while seen != (nodes.iter().map(ToString::to_string).collect(), problems) {
            assert!(
                Instant::now() < deadline,
                "last seen {seen:?}, wanted {nodes:?} and {problems} problems"
            );
            seen = self.next();
        }
    }

    fn expect_silence(&self) {
        let nothing = self.snapshots.recv_timeout(QUIET * 5);
        assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.watcher.take());
        drop(fs::remove_dir_all(&self.root));
    }
}

fn forward(sender: mpsc::Sender<Snapshot>) -> impl FnMut(Snapshot) -> ControlFlow<()> + Send {
    move |snapshot| {
        if sender.send(snapshot).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn node(name: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n")
}

#[test]
fn the_first_snapshot_comes_at_once_and_another_only_when_something_changes() {
    let rig = Rig::new("first", &[("a.yaml", &node("a"))]);
    assert_eq!(rig.next(), (vec!["a".to_owned()], 0));
    fs::write(rig.path("a.yaml"), format!("# the same\n{}", node("a"))).unwrap();
    fs::write(rig.path("notes.txt"), "nothing").unwrap();
    rig.expect_silence();
}

#[test]
fn files_written_renamed_over_and_deleted_are_noticed() {
    let rig = Rig::new("write", &[]);
    rig.expect(&[], 0);
    fs::write(rig.path("a.yaml"), node("a")).unwrap();
    rig.expect(&["a"], 0);
    fs::write(rig.path(".a.tmp"), node("b")).unwrap();
    fs::rename(rig.path(".a.tmp"), rig.path("a.yaml")).unwrap();
    rig.expect(&["b"], 0);
    fs::write(rig.root.join("elsewhere"), node("c")).unwrap();
    fs::rename(rig.root.join("elsewhere"), rig.path("c.json")).unwrap();
    rig.expect(&["b", "c"], 0);
    fs::remove_file(rig.path("a.yaml")).unwrap();
    rig.expect(&["c"], 0);
}

#[test]
fn a_file_broken_and_then_mended_never_empties_the_cluster() {
    let rig = Rig::new("broken", &[("a.yaml", &node("a"))]);
    rig.expect(&["a"], 0);
    fs::write(rig.path("a.yaml"), "apiVersion: [").unwrap();
    rig.expect(&["a"], 1);
    fs::write(rig.path("a.yaml"), node("b")).unwrap();
    rig.expect(&["b"], 0);
}

#[test]
fn the_link_that_a_mounted_config_map_swaps_is_followed() {
    let rig = Rig::new("configmap", &[]);
    rig.expect(&[], 0);
    for (version, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(rig.path(version)).unwrap();
        fs::write(rig.path(version).join("nodes.yaml"), node(name)).unwrap();
        symlink(version, rig.path("..data_tmp")).unwrap();
        fs::rename(rig.path("..data_tmp"), rig.path("..data")).unwrap();
        if version == "..1" {
            symlink("..data/nodes.yaml", rig.path("nodes.yaml")).unwrap();
        }
        rig.expect(&[name], 0);
    }
}

#[test]
fn a_link_to_nothing_is_a_problem_that_keeps_what_was_read_through_it() {
    let rig = Rig::new("dangling", &[(".real", &node("a"))]);
    rig.expect(&[], 0);
    symlink(".real", rig.path("a.yaml")).unwrap();
    rig.expect(&["a"], 0);
    fs::remove_file(rig.path(".real")).unwrap();
    rig.expect(&["a"], 1);
}

#[test]
fn directories_hidden_files_and_pipes_are_no_manifests() {
    let rig =
        Rig::new("names", &[("a.yaml", &node("a")), (".b.yaml", &node("b")), ("c.yaml.bak", &node("c"))]);
    rig.expect(&["a"], 0);
    fs::create_dir(rig.path("d.yaml")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, rig.path("e.yaml"), pipe, rustix::fs::Mode::RUSR, 0).unwrap();
    rig.expect_silence();
    fs::write(rig.path("f.yaml"), node("f")).unwrap();
    rig.expect(&["a", "f"], 0);
}

#[test]
fn a_directory_that_goes_away_leaves_the_last_state_until_it_is_there_again() {
    let rig = Rig::new("gone", &[("a.yaml", &node("a"))]);
    rig.expect(&["a"], 0);
    fs::rename(rig.directory(), rig.root.join("aside")).unwrap();
    rig.expect(&["a"], 1);
    fs::create_dir(rig.root.join("next")).unwrap();
    fs::write(rig.root.join("next/b.yaml"), node("b")).unwrap();
    fs::rename(rig.root.join("next"), rig.directory()).unwrap();
    rig.expect(&["b"], 0);
    fs::write(rig.root.join("aside/x.yaml"), node("x")).unwrap();
    rig.expect_silence();
    fs::write(rig.path("c.yaml"), node("c")).unwrap();
    rig.expect(&["b", "c"], 0);
}

#[test]
fn a_directory_replaced_in_one_step_is_followed() {
    let rig = Rig::new("replaced", &[("a.yaml", &node("a"))]);
    rig.expect(&["a"], 0);
    fs::create_dir(rig.root.join("next")).unwrap();
    fs::write(rig.root.join("next/b.yaml"), node("b")).unwrap();
    let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(cwd, rig.root.join("next"), cwd, rig.directory(), flags).unwrap();
    rig.expect(&["b"], 0);
}

#[test]
fn a_directory_that_is_missing_at_the_start_is_an_error_that_names_it() {
    let missing = Path::new("/nonexistent/manifests");
    let error = spawn(missing, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "can't read the directory of manifests /nonexistent/manifests");
    assert!(matches!(error, WatchError::Directory { .. }));
    assert!(spawn(Path::new("/proc/version"), |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn a_dropped_watcher_ends_its_thread() {
    let mut rig = Rig::new("dropped", &[]);
    rig.expect(&[], 0);
    drop(rig.watcher.take());
    let nothing = rig.snapshots.recv_timeout(Duration::from_secs(5));
    assert_eq!(nothing, Err(RecvTimeoutError::Disconnected));
}
