//! The images: there is no registry, so they are made here and imported.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use selvedge_tests::kubernetes::{Folder, Programs, repository, run};

use crate::cluster::Cluster;

/// What holds a pod's namespaces.
pub(crate) const PAUSE: &str = "selvedge.test/pause:1";

/// busybox, which serves HTTP on port 80: who answered, and as whom he was asked.
pub(crate) const WEB: &str = "selvedge.test/web:1";

/// Makes them; where they are.
pub(crate) fn make(folder: &Folder, programs: &Programs) -> Vec<PathBuf> {
    let web = folder.make("images/web");
    for folder in ["bin", "tmp", "www/cgi-bin"] {
        fs::create_dir_all(web.join(folder)).unwrap();
    }
    busybox(
        programs,
        &web.join("bin"),
        &["sh", "sleep", "nc", "wget", "ping", "httpd", "hostname", "cat", "ip", "ls", "timeout"],
    );
    fs::write(web.join("www/cgi-bin/who"), include_str!("who.sh")).unwrap();
    executable(&web.join("www/cgi-bin/who"));
    vec![pause(folder, PAUSE), archive(WEB, &web, &["/bin/httpd", "-f", "-p", "80", "-h", "/www"])]
}

/// An image of a program that waits, under some names.
pub(crate) fn pause(folder: &Folder, names: &str) -> PathBuf {
    let root = folder.make("images/pause");
    compile_pause(&root.join("pause"));
    archive(names, &root, &["/pause"])
}

/// The end-to-end suite's image of many servers, under the names that it has in the suite.
pub(crate) fn agnhost(cluster: &Cluster, names: &str) -> PathBuf {
    let root = cluster.folder.make("images/agnhost");
    for folder in ["bin", "tmp", "uploads"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(cluster.programs.kubernetes("agnhost"), root.join("agnhost")).unwrap();
    executable(&root.join("agnhost"));
    symlink("agnhost", root.join("agnhost-2")).unwrap();
    let applets =
        ["cat", "date", "grep", "head", "hostname", "ls", "nslookup", "sed", "seq", "sleep", "tail", "tr"];
    busybox(&cluster.programs, &root.join("bin"), &applets);
    // busybox's shell would take its own applets for these.
    for (program, name) in [("dash", "sh"), ("curl", "curl"), ("nc.openbsd", "nc")] {
        with_libraries(program, name, &root);
    }
    let served = cluster.control.authority().issue("agnhost", "/CN=localhost", "DNS:localhost,IP:127.0.0.1");
    fs::copy(served.certificate, root.join("localhost.crt")).unwrap();
    fs::copy(served.key, root.join("localhost.key")).unwrap();
    archive(names, &root, &["/agnhost", "pause"])
}

/// The image of a folder, beside it; its names have spaces between them.
fn archive(names: &str, root: &Path, command: &[&str]) -> PathBuf {
    let archive = root.with_extension("tar");
    let script = include_str!("image.sh");
    run(Command::new("sh").args(["-c", script, "image.sh", names]).arg(root).arg(&archive).args(command));
    archive
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn busybox(programs: &Programs, folder: &Path, applets: &[&str]) {
    fs::copy(programs.debian("bin/busybox"), folder.join("busybox")).unwrap();
    executable(&folder.join("busybox"));
    applets.iter().for_each(|name| symlink("busybox", folder.join(name)).unwrap());
}

/// Copies a program of this machine's, and what it is linked with, to the same places.
fn with_libraries(program: &str, name: &str, root: &Path) {
    let program = run(Command::new("which").arg(program));
    fs::copy(program.trim(), root.join("bin").join(name)).unwrap();
    let linked = run(Command::new("ldd").arg(program.trim()));
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
}

fn compile_pause(program: &Path) {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"]);
    rustc.args(["-C", "target-feature=+crt-static", "-o"]).arg(program);
    run(rustc.arg(repository("tests/kubernetes/pause.rs")));
}
