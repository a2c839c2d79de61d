//! The reference plugins: in a chain with ours, and as its IPAM.

use std::path::Path;
use std::process::{Command, Stdio};

use selvedge_tests::{client, skipped};

/// Where Debian's stable plugins are installed.
const INSTALLED: &str = "/usr/lib/cni";

/// The folders of the reference plugins: the installed ones, and the newest.
fn folders() -> Vec<String> {
    let newest = client("reference/usr/lib/cni").map(|folder| folder.display().to_string());
    if newest.is_none() {
        skipped("the newest reference plugins could not be unpacked");
    }
    let installed = Path::new(INSTALLED).is_dir().then(|| INSTALLED.to_owned());
    installed.into_iter().chain(newest).collect()
}

#[test]
fn the_reference_plugins_speak_up_to_the_versions_that_they_are_here_for() {
    for folder in folders() {
        let asked = Command::new(Path::new(&folder).join("portmap"))
            .env("CNI_COMMAND", "VERSION")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
        let newest = answer["supportedVersions"].as_array().unwrap().last().unwrap().as_str().unwrap();
        assert_eq!(newest, if folder == INSTALLED { "1.0.0" } else { "1.1.0" }, "{folder}");
    }
}
