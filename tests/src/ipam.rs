//! An IPAM plugin that does what a test wants of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::Stage;

/// A shell script in a folder of its own, which is what CNI_PATH has to name.
///
/// It keeps a record of its calls: the verb of each, and what the last one had in its environment and on stdin.
#[derive(Debug)]
pub struct FakeIpam {
    folder: PathBuf,
}

impl FakeIpam {
    /// What a configuration calls it.
    pub const TYPE: &str = "fake-ipam";

    /// A plugin whose answer is what these lines of shell print. They find the verb in `$CNI_COMMAND`.
    ///
    /// # Panics
    /// If the script cannot be written.
    pub fn new(stage: &Stage, lines: &str) -> Self {
        let folder = stage.folder().join("plugins");
        let here = folder.display();
        let script = format!(
            "#!/bin/sh\n\
             cat > {here}/stdin\n\
             echo \"$CNI_COMMAND\" >> {here}/calls\n\
             env > {here}/environment\n\
             {lines}\n"
        );
        let write = || {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(Self::TYPE), script)?;
            fs::set_permissions(folder.join(Self::TYPE), fs::Permissions::from_mode(0o755))
        };
        write().unwrap_or_else(|error| panic!("write a script in {folder:?}: {error}"));
        Self { folder }
    }

    /// A plugin that gives 10.244.1.250/24 with the gateway 10.244.1.1, and has nothing to say to other verbs, unless
    /// the lines of shell that it begins with end it.
    ///
    /// # Panics
    /// If the script cannot be written.
    pub fn giving(stage: &Stage, first: &str) -> Self {
        let address = r#"{"address": "10.244.1.250/24", "gateway": "10.244.1.1"}"#;
        let result = format!(r#"{{"cniVersion": "1.0.0", "ips": [{address}]}}"#);
        Self::new(stage, &format!("{first}\n[ $CNI_COMMAND != ADD ] || echo '{result}'"))
    }

    /// The folder, as CNI_PATH wants it.
    pub fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// The verbs that it was called with, in order.
    pub fn calls(&self) -> Vec<String> {
        self.record("calls").lines().map(str::to_owned).collect()
    }

    /// What the last call had on stdin.
    pub fn stdin(&self) -> String {
        self.record("stdin")
    }

    /// The lines `NAME=value` of the last call's environment.
    pub fn environment(&self) -> Vec<String> {
        self.record("environment").lines().map(str::to_owned).collect()
    }

    fn record(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}
