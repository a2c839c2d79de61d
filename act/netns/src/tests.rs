use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Namespace, NetnsError};

/// A new namespace, or `None` with the reason printed where the system allows none.
fn fresh() -> Option<Namespace> {
    match Namespace::create() {
        Ok(namespace) => Some(namespace),
        Err(error) => {
            skip(&format!("{error:?}"));
            None
        }
    }
}

/// Says why a test cannot run; under CI that is a failure.
fn skip(reason: &str) {
    println!("skipped: {reason}");
    assert!(std::env::var_os("CI").is_none(), "skipped under CI: {reason}");
}

/// A directory for one test, removed with its contents at the end, mounts included.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selvedge-netns-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            drop(Namespace::unbind(&entry.path()));
        }
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The interfaces that the calling thread sees.
fn interfaces() -> usize {
    fs::read_to_string("/proc/thread-self/net/dev").unwrap().lines().count() - 2
}

#[test]
fn a_new_namespace_holds_only_the_loopback_and_the_caller_stays_where_it_was() {
    let Some(namespace) = fresh() else { return };
    let before = Namespace::current().unwrap().identity();
    assert_ne!(namespace.identity(), before);
    assert_eq!(namespace.run(interfaces).unwrap(), 1);
    assert_eq!(namespace.run(|| Namespace::current().unwrap().identity()).unwrap(), namespace.identity());
    assert_eq!(Namespace::current().unwrap().identity(), before);
}

#[test]
fn every_way_to_a_namespace_gives_the_same_identity() {
    let current = Namespace::current().unwrap().identity();
    assert_eq!(Namespace::of_process(std::process::id()).unwrap().identity(), current);
    assert_eq!(Namespace::open(Path::new("/proc/self/ns/net")).unwrap().identity(), current);
}

#[test]
fn a_missing_path_is_told_from_one_that_is_no_network_namespace() {
    let missing = Namespace::open(Path::new("/proc/self/ns/none")).unwrap_err();
    assert!(matches!(missing, NetnsError::Open { .. }) && missing.is_gone(), "{missing:?}");
    let scratch = Scratch::new("kinds");
    fs::write(scratch.join("file"), "").unwrap();
    let others = [
        scratch.join("file"),
        PathBuf::from("/proc/self/ns/mnt"),
        PathBuf::from("/dev/null"),
        scratch.join("."),
    ];
    for path in others {
        let error = Namespace::open(&path).unwrap_err();
        assert!(matches!(error, NetnsError::NotANamespace { .. }), "{path:?}: {error:?}");
    }
}

#[test]
fn a_pipe_at_the_path_does_not_hang() {
    let scratch = Scratch::new("pipe");
    let path = scratch.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(matches!(Namespace::open(&path).unwrap_err(), NetnsError::NotANamespace { .. }));
}

#[test]
fn a_panic_inside_goes_on_outside() {
    let Some(namespace) = fresh() else { return };
    let panic = catch_unwind(AssertUnwindSafe(|| namespace.run(|| panic!("inside")))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
}

#[test]
fn a_bound_namespace_outlives_its_value_until_it_is_unbound() {
    let Some(namespace) = fresh() else { return };
    let scratch = Scratch::new("bind");
    let path = scratch.join("pod");
    if let Err(error) = namespace.bind(&path) {
        assert!(!path.exists(), "a failed bind left {path:?}");
        return skip(&format!("{error:?}"));
    }
    let identity = namespace.identity();
    assert!(matches!(namespace.bind(&path).unwrap_err(), NetnsError::Bind { .. }), "bound twice");
    drop(namespace);
    assert_eq!(Namespace::open(&path).unwrap().identity(), identity);
    Namespace::unbind(&path).unwrap();
    assert!(Namespace::open(&path).unwrap_err().is_gone());
    Namespace::unbind(&path).unwrap();
}

#[test]
fn unbinding_removes_a_file_whose_mount_was_never_made() {
    let scratch = Scratch::new("half");
    fs::write(scratch.join("half"), "").unwrap();
    match Namespace::unbind(&scratch.join("half")) {
        Ok(()) => assert!(!scratch.join("half").exists()),
        Err(error) => skip(&format!("{error:?}")),
    }
}

#[test]
fn an_ordinary_user_makes_and_enters_namespaces_inside_a_user_namespace() {
    let inner = "tests::a_new_namespace_holds_only_the_loopback_and_the_caller_stays_where_it_was";
    let unshared = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !unshared {
        return skip("no user namespaces, or no unshare(1)");
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", inner])
        .env("CI", "true")
        .status();
    assert!(status.unwrap().success());
}
