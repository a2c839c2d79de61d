//! The images: there is no registry, so they are made here and imported.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use selvedge_tests::kubernetes::{Folder, Programs, repository, run};

/// What holds a pod's namespaces.
pub(crate) const PAUSE: &str = "selvedge.test/pause:1";

/// busybox, which serves HTTP on port 80: who answered, and as whom he was asked.
pub(crate) const WEB: &str = "selvedge.test/web:1";

/// Makes them; where they are.
pub(crate) fn make(folder: &Folder, programs: &Programs) -> Vec<PathBuf> {
    let images = folder.make("images");
    let (pause, web) = (folder.make("images/pause"), folder.make("images/web"));
    compile_pause(&pause.join("pause"));
    let executable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["bin", "tmp", "www/cgi-bin"] {
        fs::create_dir_all(web.join(folder)).unwrap();
    }
    fs::copy(programs.debian("bin/busybox"), web.join("bin/busybox")).unwrap();
    executable(&web.join("bin/busybox"));
    for applet in ["sh", "sleep", "nc", "wget", "ping", "httpd", "hostname", "cat", "ip", "ls", "timeout"] {
        symlink("busybox", web.join("bin").join(applet)).unwrap();
    }
    fs::write(web.join("www/cgi-bin/who"), include_str!("who.sh")).unwrap();
    executable(&web.join("www/cgi-bin/who"));
    let archive = |name: &str, root: &Path, command: &[&str]| {
        let archive = images.join(format!("{}.tar", root.file_name().unwrap().display()));
        let script = include_str!("image.sh");
        let mut sh = Command::new("sh");
        run(sh.args(["-c", script, "image.sh", name]).arg(root).arg(&archive).args(command));
        archive
    };
    vec![
        archive(PAUSE, &pause, &["/pause"]),
        archive(WEB, &web, &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]),
    ]
}

fn compile_pause(program: &Path) {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"]);
    rustc.args(["-C", "target-feature=+crt-static", "-o"]).arg(program);
    run(rustc.arg(repository("tests/kubernetes/pause.rs")));
}
