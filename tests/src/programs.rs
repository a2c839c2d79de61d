//! Where the programs under test are.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of the release programs: the one that `make` names in `SELVEDGE_BIN_DIR`, and for a bare `cargo test`
/// the one that `make build` has filled.
///
/// # Panics
/// If there is none, with what to type.
pub fn bin_dir() -> PathBuf {
    match env::var_os("SELVEDGE_BIN_DIR") {
        Some(named) => PathBuf::from(named),
        None => built().unwrap_or_else(|| panic!("the release programs are not built: run `make build`")),
    }
}

/// The path of one of our programs.
///
/// # Panics
/// If it is not there, with what to type.
pub fn program(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(path.is_file(), "{path:?} is not built: run `make build`");
    path
}

/// The first folder in cargo's target directory, which a test program lies three levels below, with a release plugin.
fn built() -> Option<PathBuf> {
    let test = env::current_exe().ok()?;
    let target = test.ancestors().nth(3)?;
    let mut triples: Vec<_> = target.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    triples.sort();
    triples.push(target.to_owned());
    triples.iter().map(|folder| folder.join("release")).find(|folder| has_plugin(folder))
}

fn has_plugin(folder: &Path) -> bool {
    folder.join("selvedge").is_file()
}
