use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use selvedge_model::{NodeName, PublicKey};

use super::*;
use crate::keys::publish;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

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
        let (manifests, keys) = (rig.directory(), rig.keys());
        let directories = Directories { manifests: &manifests, keys: Some(&keys) };
        rig.watcher = Some(spawn(directories, forward(sender)).unwrap());
        rig
    }

    fn directory(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// That of keys, which isn't there at first.
    fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The next snapshot's nodes and the number of its problems.
    fn next(&self) -> (Vec<String>, usize) {
        let snapshot = self.snapshots.recv_timeout(SOON).unwrap();
        (snapshot.cluster.nodes().keys().map(ToString::to_string).collect(), snapshot.problems.len())
    }

    /// Waits for a snapshot with these nodes and this number of problems; a file that is written in several steps may
    /// be seen in between.
    fn expect(&self, nodes: &[&str], problems: usize) {
        let deadline = Instant::now() + SOON;
        let mut seen = self.next();
        while seen != (nodes.iter().map(ToString::to_string).collect(), problems) {
            assert!(
                Instant::now() < deadline,
                "last seen {seen:?}, wanted {nodes:?} and {problems} problems"
            );
            seen = self.next();
        }
    }

    /// Waits for a snapshot in which node `a` has this key, without a problem.
    fn expect_key(&self, key: Option<PublicKey>) {
        let deadline = Instant::now() + SOON;
        loop {
            let snapshot = self.snapshots.recv_timeout(SOON).unwrap();
            let seen = snapshot.cluster.nodes().get(&"a".parse().unwrap()).unwrap().wireguard;
            if seen == key && snapshot.problems.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "last seen {seen:?} {:?}, wanted {key:?}", snapshot.problems);
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
    let nothing = rig.snapshots.recv_timeout(SOON);
    assert_eq!(nothing, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_key_that_is_published_changed_and_withdrawn_is_heard_also_of_a_directory_that_comes_and_goes() {
    let rig = Rig::new("keys", &[("a.yaml", &node("a"))]);
    rig.expect_key(None);
    let (a, other): (NodeName, NodeName) = ("a".parse().unwrap(), "b".parse().unwrap());
    for key in [Some(PublicKey([1; 32])), Some(PublicKey([2; 32])), None, Some(PublicKey([1; 32]))] {
        publish(&rig.keys(), &a, key).unwrap();
        rig.expect_key(key);
    }
    publish(&rig.keys(), &other, Some(PublicKey([3; 32]))).unwrap();
    rig.expect_silence();
    // A directory that is unmounted, or moved, withdraws nobody's key.
    fs::rename(rig.keys(), rig.path("away")).unwrap();
    rig.expect(&["a"], 1);
    publish(&rig.keys(), &a, Some(PublicKey([4; 32]))).unwrap();
    rig.expect_key(Some(PublicKey([4; 32])));
}

#[test]
fn files_of_keys_that_are_no_good_are_problems_and_others_are_not_files_of_keys() {
    let rig = Rig::new("nonsense", &[("a.yaml", &node("a"))]);
    rig.expect_key(None);
    fs::create_dir_all(rig.keys().join("lost+found")).unwrap();
    let key = PublicKey([1; 32]);
    publish(&rig.keys(), &"a".parse().unwrap(), Some(key)).unwrap();
    rig.expect_key(Some(key));
    fs::write(rig.keys().join(".a~"), "half").unwrap();
    rig.expect_silence();
    fs::write(rig.keys().join("a"), "nonsense").unwrap();
    rig.expect(&["a"], 1);
    // Rewritten at once, with as many bytes and perhaps at the same time.
    fs::write(rig.keys().join("a"), "nonsensf").unwrap();
    fs::write(rig.keys().join("a"), format!("{}", PublicKey([2; 32]))).unwrap();
    fs::write(rig.keys().join("a"), format!("{}", PublicKey([3; 32]))).unwrap();
    rig.expect_key(Some(PublicKey([3; 32])));
    fs::remove_file(rig.keys().join("a")).unwrap();
    rig.expect_key(None);
    fs::remove_dir_all(rig.keys()).unwrap();
    fs::write(rig.keys(), "no directory").unwrap();
    rig.expect(&["a"], 1);
}

#[test]
fn a_key_that_replaces_one_that_was_remembered_is_read() {
    let root = std::env::temp_dir().join(format!("selvedge-source-{}-stamps", std::process::id()));
    let name: NodeName = "a".parse().unwrap();
    let mut files = KeyFiles::default();
    let mut read = || files.texts(&root).unwrap().remove(&root.join("a")).unwrap().unwrap();
    for byte in [1, 1, 2] {
        let key = PublicKey([byte; 32]);
        publish(&root, &name, Some(key)).unwrap();
        assert_eq!(read(), format!("{key}\n").as_bytes());
        // So long that it is remembered.
        thread::sleep(directory::FRESH + Duration::from_millis(1100));
        assert_eq!(read(), format!("{key}\n").as_bytes());
    }
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_file_that_is_moved_into_quiet_is_read_at_once() {
    let rig = Rig::new("at-once", &[("a.yaml", &node("a"))]);
    rig.expect(&["a"], 0);
    let mut took: Vec<Duration> = (0..9)
        .map(|n| {
            thread::sleep(QUIET * 3);
            fs::write(rig.root.join("elsewhere"), node(&format!("b{n}"))).unwrap();
            let began = Instant::now();
            fs::rename(rig.root.join("elsewhere"), rig.path("b.yaml")).unwrap();
            rig.expect(&["a", &format!("b{n}")], 0);
            began.elapsed()
        })
        .collect();
    took.sort();
    assert!(took[0] < QUIET, "{took:?}");
}

#[test]
fn a_file_that_is_being_written_is_as_before_until_it_is_closed() {
    let both = format!("{}---\n{}", node("a"), node("b"));
    let rig = Rig::new("written", &[("a.yaml", &both)]);
    rig.expect(&["a", "b"], 0);
    let mut file = fs::File::create(rig.path("a.yaml")).unwrap();
    file.write_all(node("a").as_bytes()).unwrap();
    // Another one is read meanwhile.
    fs::write(rig.path("c.yaml"), node("c")).unwrap();
    assert_eq!(rig.next(), (["a", "b", "c"].map(str::to_owned).to_vec(), 0));
    file.write_all(format!("---\n{}", node("d")).as_bytes()).unwrap();
    drop(file);
    assert_eq!(rig.next(), (["a", "c", "d"].map(str::to_owned).to_vec(), 0));
}

#[test]
fn a_file_changed_twice_within_a_tick_of_the_clock_and_one_of_another_time_are_read_as_they_are() {
    let rig = Rig::new("ticks", &[("a.yaml", &node("a"))]);
    rig.expect(&["a"], 0);
    for name in ["b", "c", "d", "e"] {
        fs::write(rig.path("a.yaml"), node(name)).unwrap();
        rig.expect(&[name], 0);
    }
    thread::sleep(Duration::from_millis(2_500));
    fs::write(rig.path("x.yaml"), node("x")).unwrap();
    rig.expect(&["e", "x"], 0);
    fs::write(rig.path("a.yaml"), node("f")).unwrap();
    rig.expect(&["f", "x"], 0);
}
