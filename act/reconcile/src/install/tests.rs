use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::*;

/// A folder with a plugin to install, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("selvedge-install-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("given"), vec![7; 3 * CHUNK + 5]).unwrap();
        Self(folder)
    }

    fn plugin(&self) -> PluginFile {
        PluginFile::new(self.0.join("given"), self.place())
    }

    fn place(&self) -> PathBuf {
        self.0.join("opt/cni/bin/selvedge")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place().parent().unwrap()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_plugin_is_installed_where_there_is_not_even_a_directory() {
    let folder = Folder::new();
    let mut plugin = folder.plugin();
    assert_eq!(plugin.compare().unwrap(), Plugin::Missing);
    plugin.install().unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Same);
    assert_eq!(fs::metadata(folder.place()).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(folder.names(), ["selvedge"]);
}

#[test]
fn whoever_runs_the_plugin_before_keeps_that() {
    let folder = Folder::new();
    folder.plugin().install().unwrap();
    let mut before = File::open(folder.place()).unwrap();
    fs::write(folder.0.join("given"), "another version").unwrap();
    let mut plugin = folder.plugin();
    assert_eq!(plugin.compare().unwrap(), Plugin::Other);
    plugin.install().unwrap();
    let mut bytes = Vec::new();
    before.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, vec![7; 3 * CHUNK + 5]);
    assert_eq!(fs::read_to_string(folder.place()).unwrap(), "another version");
    assert_eq!(plugin.compare().unwrap(), Plugin::Same);
}

#[test]
fn a_byte_a_mode_and_a_symbolic_link_make_another_file() {
    let folder = Folder::new();
    let mut plugin = folder.plugin();
    plugin.install().unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Same);
    let mut bytes = fs::read(folder.place()).unwrap();
    *bytes.last_mut().unwrap() = 8;
    fs::write(folder.place(), bytes).unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Other);
    plugin.install().unwrap();
    fs::set_permissions(folder.place(), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Other);
    plugin.install().unwrap();
    fs::remove_file(folder.place()).unwrap();
    std::os::unix::fs::symlink(folder.0.join("given"), folder.place()).unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Other);
    plugin.install().unwrap();
    assert_eq!(plugin.compare().unwrap(), Plugin::Same);
}

#[test]
fn what_killed_installs_have_left_goes_away_and_what_others_keep_there_stays() {
    let folder = Folder::new();
    let directory = folder.place().parent().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    for name in [".selvedge.new-0123456789abcdef", "bridge", ".hidden", ".selvedge.old"] {
        let file = File::create(directory.join(name)).unwrap();
        file.set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
    }
    // What another agent is writing just now; far enough ahead for a machine that is slow.
    let at_work = File::create(directory.join(".selvedge.new-fedcba9876543210")).unwrap();
    at_work.set_modified(SystemTime::now() + ABANDONED * 60).unwrap();
    folder.plugin().install().unwrap();
    assert_eq!(
        folder.names(),
        [".hidden", ".selvedge.new-fedcba9876543210", ".selvedge.old", "bridge", "selvedge"]
    );
}

#[test]
fn an_install_that_fails_leaves_nothing_behind() {
    let folder = Folder::new();
    fs::create_dir_all(folder.place().join("a directory in its place")).unwrap();
    let mut plugin = folder.plugin();
    assert_eq!(plugin.compare().unwrap(), Plugin::Other);
    plugin.install().unwrap_err();
    assert_eq!(folder.names(), ["selvedge"]);
    fs::remove_file(folder.0.join("given")).unwrap();
    assert_eq!(plugin.install().unwrap_err().kind(), ErrorKind::NotFound);
}
