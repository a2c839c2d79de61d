//! Tests with mounts of their own: each runs again in a process with a private mount namespace.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use selvedge_tests::{Stage, skipped};

/// Names the folder on which the process inside may mount.
const INSIDE: &str = "SELVEDGE_CRASH_MOUNTS";

/// Runs a test's body in a process with a mount namespace of its own, where `run` below the folder that it is given is
/// a tmpfs of such a size. `test` is the test's path. What is mounted goes with the process.
pub(crate) fn with_tmpfs(test: &str, size: &str, body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return body(Path::new(&folder));
    }
    let Some(stage) = Stage::new() else { return };
    let folder = stage.folder();
    fs::create_dir(folder.join("run")).unwrap();
    let script = "mount -t tmpfs -o size=\"$1\" tmpfs \"$2\"/run && shift 2 && exec \"$@\"";
    // The signal comes when this thread ends, and so with this process.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
    command.args(["sh", "-c", script, "sh", size]).arg(folder).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(INSIDE, folder);
    let able = Command::new("unshare").args(["--mount", "true"]).status();
    if !able.is_ok_and(|status| status.success()) {
        return skipped("mount namespaces need root and unshare of util-linux");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{test} inside: {printed}");
}

/// Changes what is mounted; only inside.
pub(crate) fn mount(arguments: &[&str]) {
    assert!(std::env::var_os(INSIDE).is_some(), "not on the machine itself");
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}: {status}");
}

/// A program that runs another at a later time since boot: `unshare --time`.
pub(crate) fn later(folder: &Path, name: &str, seconds: i64, program: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    let script = format!("#!/bin/sh\nexec unshare --time --boottime {seconds} {}\n", program.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// True if processes can have a clock of their own.
pub(crate) fn has_clocks() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--time", "--boottime", "1000", "true"]).process_group(0);
    command.status().is_ok_and(|status| status.success())
}
