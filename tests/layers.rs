//! The arrows between the crates, read from their manifests: bin → act → decide → decide/model, and never back.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate that decides may be built from: nothing in it opens a file or a socket, reads a clock or starts a
/// thread. A new name here is a decision to be argued for.
const PURE: &[&str] =
    &["crc32c", "data-encoding", "ipnet", "memchr", "proptest", "serde", "serde_json", "sha2", "thiserror"];

/// The crates that may use others of their own layer. In `decide` everyone may also use the model.
const SIDEWAYS: &[(&str, &[&str])] = &[
    ("decide/datapath", &["decide/policy", "decide/ruleset", "decide/service"]),
    (
        "decide/explain",
        &[
            "decide/cni",
            "decide/datapath",
            "decide/ipam",
            "decide/policy",
            "decide/ruleset",
            "decide/service",
        ],
    ),
    ("decide/policy", &["decide/ruleset"]),
    ("decide/whatif", &["decide/policy"]),
    // Its own key.
    ("act/forward", &["act/wireguard"]),
    ("act/leases", &["act/netlink"]),
    ("act/netlink", &["act/netns", "act/wire"]),
    ("act/nft", &["act/wire"]),
    ("act/ports", &["act/leases", "act/netlink", "act/nft"]),
    // Its tests wire what is measured.
    ("act/probe", &["act/netlink"]),
    (
        "act/reconcile",
        &[
            "act/forward",
            "act/leases",
            "act/netlink",
            "act/netns",
            "act/nft",
            "act/source",
            "act/wireguard",
            "act/xtables",
        ],
    ),
    // The kernel's device is a link.
    ("act/wireguard", &["act/netlink", "act/wire"]),
];

/// What the tests of every crate that acts may use besides: the namespaces they run in.
const STAGE: &str = "act/netns";

/// What the plugin does without.
const HEAVY: &[&str] = &["axum", "clap", "hyper", "kube", "tokio", "tracing-subscriber"];

/// The only program that has the lab in it.
const LAB_USER: &str = "bin/ctl";

#[test]
fn no_arrow_points_sideways_or_back() {
    let crates = Workspace::read();
    let wrong: Vec<_> = crates
        .0
        .iter()
        .flat_map(|from| from.ours.iter().map(move |(to, kind)| (from, to, *kind)))
        .filter(|(from, to, kind)| !may_use(&from.path, to, *kind))
        .map(|(from, to, _)| format!("{} may not use {to}", from.path))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_crate_that_decides_is_built_from_pure_crates_only() {
    let crates = Workspace::read();
    let wrong: Vec<_> = crates
        .0
        .iter()
        .filter(|package| layer(&package.path) == "decide")
        .flat_map(|package| package.foreign.iter().map(move |name| (package, name)))
        .filter(|(_, name)| !PURE.contains(&name.as_str()))
        .map(|(package, name)| format!("{} may not use {name}", package.path))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_crate_is_empty() {
    for package in Workspace::read().0 {
        let lines = code_lines(&package.folder.join("src"));
        assert!(lines > 0, "{} has no code: a crate appears with its first real content", package.path);
    }
}

#[test]
fn the_plugin_has_no_async_runtime_and_no_server() {
    let tree = cargo(&["tree", "--package", "selvedge", "--edges", "normal", "--prefix", "none"]);
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"selvedge-cni"), "cargo tree lists what the plugin is built from:\n{tree}");
    let wrong: Vec<_> = names.iter().filter(|name| HEAVY.contains(name)).collect();
    assert!(wrong.is_empty(), "the plugin starts once for each pod and may not be built from {wrong:?}");
}

#[test]
fn the_rule_refuses_what_it_must() {
    let (built, tested) = (Kind::Built, Kind::Tested);
    assert!(!may_use("decide/model", "decide/cni", built), "the model uses none of ours");
    assert!(!may_use("decide/ipam", "decide/cni", built), "sideways in decide");
    assert!(!may_use("decide/ipam", "act/leases", tested), "back from decide, in a test too");
    assert!(!may_use("act/nft", "act/netlink", built), "sideways in act");
    assert!(!may_use("act/nft", "act/netns", built), "the stage is for tests");
    assert!(!may_use("act/source", "bin/agent", built), "back from act");
    assert!(!may_use("lab", "bin/ctl", built), "the lab runs the programs, it is not built from them");
    assert!(!may_use("bin/plugin", "lab", built), "the plugin has no lab in it");
    assert!(!may_use("bin/ctl", "bin/agent", built), "a program from a program");
    assert!(!may_use("act/netns", "tests", tested), "nothing uses the tests");

    assert!(may_use("decide/cni", "decide/model", built));
    assert!(may_use("decide/datapath", "decide/ruleset", built));
    assert!(may_use("act/nft", "decide/ruleset", built));
    assert!(may_use("act/nft", "act/netns", tested));
    assert!(may_use("bin/ctl", "lab", built));
    assert!(may_use("tests", "lab", built));
}

/// Whether a crate may use another of ours, both named by their folders.
fn may_use(from: &str, to: &str, kind: Kind) -> bool {
    let sideways = || SIDEWAYS.iter().any(|(name, others)| *name == from && others.contains(&to));
    match (layer(from), layer(to)) {
        ("decide", "decide") => from != "decide/model" && (to == "decide/model" || sideways()),
        ("act", "act") => sideways() || (kind == Kind::Tested && to == STAGE),
        ("act", "decide") | ("lab" | "bin", "decide" | "act") => true,
        ("bin", "lab") => from == LAB_USER,
        ("tests" | "bench" | "fuzz", "decide" | "act" | "lab" | "tests") => true,
        _ => false,
    }
}

/// The first part of a crate's folder.
fn layer(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// What a dependency is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The crate itself, or its build script.
    Built,
    /// Its tests alone.
    Tested,
}

/// One crate of the workspace.
struct Package {
    /// Its folder from the workspace's root, as `decide/model`.
    path: String,
    folder: PathBuf,
    /// The crates of the workspace that it uses, by their folders.
    ours: Vec<(String, Kind)>,
    /// The names of the other crates that it uses.
    foreign: Vec<String>,
}

/// Every crate, as cargo sees it.
struct Workspace(Vec<Package>);

impl Workspace {
    fn read() -> Self {
        let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
        let root = Path::new(text(&metadata["workspace_root"]));
        let packages: Vec<_> =
            list(&metadata["packages"]).iter().map(|package| Package::of(package, root)).collect();
        assert!(packages.len() > 1, "cargo lists the workspace's crates");
        Self(packages)
    }
}

impl Package {
    fn of(package: &Value, root: &Path) -> Self {
        let folder =
            Path::new(text(&package["manifest_path"])).parent().expect("a manifest lies in a folder");
        let (mut ours, mut foreign) = (Vec::new(), Vec::new());
        for dependency in list(&package["dependencies"]) {
            let kind = if dependency["kind"] == "dev" { Kind::Tested } else { Kind::Built };
            match dependency["path"].as_str() {
                Some(path) => ours.push((from_root(Path::new(path), root), kind)),
                None => foreign.push(text(&dependency["name"]).to_owned()),
            }
        }
        Self { path: from_root(folder, root), folder: folder.to_owned(), ours, foreign }
    }
}

/// What cargo prints about the workspace.
fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output =
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

fn from_root(folder: &Path, root: &Path) -> String {
    folder.strip_prefix(root).expect("every crate of ours lies in the workspace").display().to_string()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo says a string here")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo says a list here")
}

/// How many lines of the Rust files in a folder and below are neither blank nor comments.
fn code_lines(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("read {folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("a folder's entry").path());
    paths
        .map(|path| {
            if path.is_dir() {
                return code_lines(&path);
            }
            let source = fs::read_to_string(&path).unwrap_or_default();
            source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
        })
        .sum()
}
