//! The plugin with a /run and a boot of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use selvedge_tests::{Call, Stage, program, skipped};
use serde_json::Value;

/// A machine as the plugin sees it: each call gets a mount namespace in which /run and the boot's id are the test's.
pub(crate) struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// The machine of a stage; `None` where mounts can't be made.
    pub(crate) fn new(stage: &Stage) -> Option<Self> {
        let folder = stage.folder().join("machine");
        fs::create_dir_all(folder.join("run")).unwrap();
        let machine = Self { folder };
        machine.boot(1);
        let here = machine.folder.display();
        let script = format!(
            "#!/bin/sh\n\
             exec unshare --mount sh -ec '\n\
                 mount --bind {here}/run /run\n\
                 mount --bind {here}/boot_id /proc/sys/kernel/random/boot_id\n\
                 exec {}'\n",
            program("selvedge").display()
        );
        let path = machine.program();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let able = std::process::Command::new("unshare").args(["--mount", "true"]).status();
        if able.is_ok_and(|status| status.success()) {
            return Some(machine);
        }
        skipped("mount namespaces need root and unshare of util-linux");
        None
    }

    /// Boots it for the so-manieth time: what is in /run stays, as on a machine that keeps it on disk.
    pub(crate) fn boot(&self, number: u8) {
        let id = format!("00000000-0000-4000-8000-0000000000{number:02}\n");
        fs::write(self.folder.join("boot_id"), id).unwrap();
    }

    /// A call of the plugin on it, the configuration yet to be said.
    pub(crate) fn call(&self, verb: &str) -> Call {
        Call::new(verb, Value::Null).by(&self.program())
    }

    /// Its /run.
    pub(crate) fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn program(&self) -> PathBuf {
        Path::new(&self.folder).join("selvedge")
    }
}
