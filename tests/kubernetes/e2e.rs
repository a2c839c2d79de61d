//! The end-to-end suite that comes with Kubernetes: what it demands of every pod network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use selvedge_tests::kubernetes::{Programs, say};
use selvedge_tests::skipped;
use serde_json::json;

use crate::cluster::Cluster;
use crate::{images, install, names};

/// Some of its specs.
struct Specs {
    /// What their names match.
    focus: &'static str,
    /// What the names of those match that are left out.
    skip: &'static str,
    /// As many at least are to have passed.
    fewest: usize,
}

/// Conformance of the network, but for those of the cluster's DNS, of which there is none here: the suite of 1.20 has 24.
const CONFORMANCE: Specs =
    Specs { focus: r"\[sig-network\].*\[Conformance\]", skip: r"\[sig-network\] DNS", fewest: 24 };

/// NetworkPolicies, but for those that open SCTP sockets, which a kernel may not have: the suite of 1.20 has 29.
const POLICIES: Specs = Specs { focus: r"\[sig-network\] (NetworkPolicy|Netpol)", skip: "SCTP", fewest: 29 };

/// Where its pods' images would come from, if nodes had not got them before.
const REGISTRY: &str = "selvedge.test";

#[test]
fn the_end_to_end_suite_passes_its_network_conformance() {
    pass(&CONFORMANCE);
}

#[test]
fn the_end_to_end_suite_passes_its_network_policies() {
    pass(&POLICIES);
}

fn pass(wanted: &Specs) {
    if !Programs::find().is_some_and(|programs| is_there(&programs)) {
        skipped("the end-to-end suite is not there: `make kubernetes` builds it");
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    let suite = Suite(&cluster);
    let agnhost = images::agnhost(&cluster, &suite.names("agnhost"));
    let pause = images::pause(&cluster.folder, &suite.names("pause"));
    for node in &cluster.nodes {
        node.import(&cluster.programs, &agnhost);
        node.import(&cluster.programs, &pause);
    }
    install::install(&cluster);
    let (ended, specs) = names::answer_during(&cluster, || suite.run(wanted));
    for spec in &specs {
        say(&format!("{}: {}", spec.failure.as_deref().unwrap_or("passed"), spec.name));
    }
    let failed = specs.iter().filter(|spec| spec.failure.is_some()).count();
    say(&format!("end-to-end suite: {} passed, {failed} failed", specs.len() - failed));
    assert!(
        ended.success() && failed == 0,
        "the suite ended with {ended}; what it wrote is in {}",
        output().display()
    );
    assert!(specs.len() >= wanted.fewest, "these are not all");
    install::uninstall(&cluster);
}

/// What was tried.
struct Spec {
    name: String,
    failure: Option<String>,
}

fn is_there(programs: &Programs) -> bool {
    ["e2e.test", "agnhost"].iter().all(|name| programs.kubernetes(name).is_file())
}

/// Where the suite's log and report stay.
fn output() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e")
}

/// The suite's program.
struct Suite<'a>(&'a Cluster);

impl Suite<'_> {
    fn command(&self) -> Command {
        let registries = self.0.folder.join("registries.yaml");
        fs::write(&registries, json!({"promoterE2eRegistry": REGISTRY, "gcRegistry": REGISTRY}).to_string())
            .unwrap();
        let mut suite = self.0.control.administer(&self.0.programs, &self.0.programs.kubernetes("e2e.test"));
        suite.env("KUBE_TEST_REPO_LIST", registries);
        suite
    }

    /// By which names its pods call an image: of some it has an older version too.
    fn names(&self, image: &str) -> String {
        let listed = self.command().arg("--list-images").output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let ours = format!("{REGISTRY}/{image}:");
        let names: Vec<_> = listed.lines().filter(|name| name.starts_with(&ours)).collect();
        assert!(!names.is_empty(), "no {image} among {listed}");
        names.join(" ")
    }

    /// Runs it; what became of it, and of each spec.
    fn run(&self, wanted: &Specs) -> (ExitStatus, Vec<Spec>) {
        let reports = output();
        drop(fs::remove_dir_all(&reports));
        fs::create_dir_all(&reports).unwrap();
        let log = reports.join("log");
        say(&format!("the end-to-end suite runs, for some minutes; its log is {}", log.display()));
        let log = fs::File::create(log).unwrap();
        let mut suite = self.command();
        suite.args(["--provider", "skeleton", "--disable-log-dump", "--report-dir"]).arg(&reports);
        suite.args(["-ginkgo.focus", wanted.focus, "-ginkgo.skip", wanted.skip, "-test.timeout", "120m"]);
        suite.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let ended = suite.status().unwrap();
        let report = fs::read_to_string(reports.join("junit_01.xml"));
        let report =
            report.unwrap_or_else(|error| panic!("the suite ended with {ended}, its report: {error}"));
        (ended, report.split("<testcase ").skip(1).filter_map(spec).collect())
    }
}

/// A case of a JUnit report; `None` of what was not run.
fn spec(case: &str) -> Option<Spec> {
    let name = case.strip_prefix("name=\"")?.split('"').next()?;
    if !name.contains("[sig-network]") || case.contains("<skipped") {
        return None;
    }
    let failure = case.split_once("<failure").or_else(|| case.split_once("<error"));
    let failure = failure.map(|(_, why)| why.split("</").next().unwrap_or(why).trim().to_owned());
    Some(Spec { name: name.to_owned(), failure })
}
