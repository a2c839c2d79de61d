//! Where the programs under test are, and those that call them.

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

/// A file or folder of the programs that `make clients` has unpacked or built: below the folder that `make` names in
/// `SELVEDGE_CLIENTS_DIR`, and for a bare `cargo test` below the one in cargo's target directory. `None` if it is not
/// there.
pub fn client(path: &str) -> Option<PathBuf> {
    let named = env::var_os("SELVEDGE_CLIENTS_DIR").map(PathBuf::from);
    let found = named.or_else(|| Some(target_dir()?.join("clients")))?.join(path);
    found.exists().then_some(found)
}

/// Cargo's target directory, which a test program lies three levels below.
fn target_dir() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.ancestors().nth(3)?.to_owned())
}

/// The first folder in cargo's target directory with a release plugin.
fn built() -> Option<PathBuf> {
    let target = target_dir()?;
    let mut triples: Vec<_> = target.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    triples.sort();
    triples.push(target);
    triples.iter().map(|folder| folder.join("release")).find(|folder| has_plugin(folder))
}

fn has_plugin(folder: &Path) -> bool {
    folder.join("selvedge").is_file()
}
