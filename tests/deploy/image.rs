//! The image: small, the same bytes each time, and laid out as those who import it expect.

use std::fs;
use std::path::Path;
use std::process::Command;

use selvedge_tests::{bin_dir, program};
use serde_json::Value;

use crate::site::{Folder, deploy, printed};

/// What is in it.
const PROGRAMS: [&str; 4] = ["selvedge", "selvedge-agent", "selvedge-tunnel", "selvedgectl"];

/// What the archive may weigh, and the agent.
const ARCHIVE: u64 = 12_000_000;
const AGENT: u64 = 9_000_000;

#[test]
fn the_same_programs_make_the_same_bytes_elsewhere_and_later() {
    let (first, second) = (Folder::new(), Folder::new());
    make(&bin_dir(), &first.path().join("image.tar"));
    // Copies are newer, have other modes, and lie elsewhere.
    let programs = second.path().join("programs");
    fs::create_dir(&programs).expect("a folder");
    for name in PROGRAMS {
        printed(Command::new("install").args(["-m", "700"]).arg(program(name)).arg(programs.join(name)));
    }
    make(&programs, &second.path().join("another.tar"));
    let (first, second) = (first.path().join("image.tar"), second.path().join("another.tar"));
    assert!(fs::read(&first).expect("written") == fs::read(&second).expect("written"), "the archives differ");
}

#[test]
fn it_is_small_and_names_what_it_holds() {
    let folder = Folder::new();
    let archive = folder.path().join("image.tar");
    make(&bin_dir(), &archive);
    let member = |name: &str| printed(Command::new("tar").arg("-xOf").arg(&archive).arg(name));
    let manifest: Value = serde_json::from_str(&member("manifest.json")).expect("JSON");
    let image = &manifest[0];
    assert_eq!(image["RepoTags"][0], format!("selvedge:{}", env!("CARGO_PKG_VERSION")));
    let config = image["Config"].as_str().expect("a name");
    let layer = image["Layers"][0].as_str().expect("a name");
    assert_eq!(image["Layers"].as_array().map(Vec::len), Some(1));

    printed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder.path()));
    // Both are named by what they hold, and the configuration names the unpacked layer so.
    assert_eq!(format!("{}.json", digest(&folder.path().join(config))), config);
    assert_eq!(format!("{}.tar.gz", digest(&folder.path().join(layer))), layer);
    printed(Command::new("gunzip").arg("--keep").arg(folder.path().join(layer)));
    let unpacked = folder.path().join(layer.trim_end_matches(".gz"));
    let config: Value = serde_json::from_str(&member(config)).expect("JSON");
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&unpacked)));
    assert_eq!(config["config"]["Entrypoint"][0], "/opt/selvedge/bin/selvedge-agent");

    let listed = printed(Command::new("tar").arg("-tf").arg(&unpacked));
    for name in PROGRAMS {
        assert!(listed.lines().any(|line| line == format!("./opt/selvedge/bin/{name}")), "{listed}");
    }
    if is_release() {
        let size = |path: &Path| fs::metadata(path).expect("it is there").len();
        assert!(size(&archive) < ARCHIVE, "the archive has {} bytes", size(&archive));
        assert!(
            size(&program("selvedge-agent")) < AGENT,
            "the agent has {} bytes",
            size(&program("selvedge-agent"))
        );
    }
}

/// Programs that are built for tests are as big as they are.
fn is_release() -> bool {
    bin_dir().ends_with("release")
}

fn make(programs: &Path, archive: &Path) {
    let said = printed(Command::new(deploy().join("image.sh")).arg(programs).arg(archive));
    assert!(said.contains("sha256:"), "{said}");
}

fn digest(file: &Path) -> String {
    let printed = printed(Command::new("sha256sum").arg(file));
    printed.split(' ').next().unwrap_or_default().to_owned()
}
