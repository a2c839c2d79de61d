//! The end-to-end suite that comes with Kubernetes: what it demands of every pod network.

use std::fs;
use std::process::Stdio;

use selvedge_tests::kubernetes::say;
use serde_json::json;

use crate::cluster::Cluster;
use crate::{images, install, names};

/// Which of its specs: conformance of the network, but for those of the cluster's DNS, of which there is none here.
const SPECS: (&str, &str) = (r"\[sig-network\].*\[Conformance\]", r"\[sig-network\] DNS");

/// Where its pods' images would come from, if nodes had not got them before.
const REGISTRY: &str = "selvedge.test";

/// As many at least are to have passed: the suite of 1.20 has 24.
const FEWEST: usize = 24;

#[test]
fn the_end_to_end_suite_passes_its_network_conformance() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(suite) = Suite::find(&cluster) else {
        say("skipped: the folder of KUBE_BIN has no e2e.test with its agnhost");
        return;
    };
    let agnhost = images::agnhost(&cluster, &suite.names("agnhost"));
    let pause = images::pause(&cluster.folder, &suite.names("pause"));
    for node in &cluster.nodes {
        node.import(&cluster.programs, &agnhost);
        node.import(&cluster.programs, &pause);
    }
    install::install(&cluster);
    let verdicts = names::answer_during(&cluster, || suite.run());
    for (name, verdict) in &verdicts {
        say(&format!("{verdict:?}: {name}"));
    }
    let count = |wanted| verdicts.iter().filter(|(_, verdict)| *verdict == wanted).count();
    say(&format!("end-to-end suite: {} passed, {} failed", count(Verdict::Passed), count(Verdict::Failed)));
    assert_eq!(count(Verdict::Failed), 0, "its output is in logs/e2e.log");
    assert!(count(Verdict::Passed) >= FEWEST, "these are not all");
    install::uninstall(&cluster);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

/// The suite's program.
struct Suite<'a>(&'a Cluster);

impl<'a> Suite<'a> {
    fn find(cluster: &'a Cluster) -> Option<Self> {
        let there = ["e2e.test", "agnhost"].iter().all(|name| cluster.programs.kubernetes(name).is_file());
        there.then_some(Self(cluster))
    }

    fn command(&self) -> std::process::Command {
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

    /// Runs it; what became of each spec.
    fn run(&self) -> Vec<(String, Verdict)> {
        say("the end-to-end suite runs, for some minutes");
        let reports = self.0.folder.make("e2e");
        let log = fs::File::create(self.0.folder.make("logs").join("e2e.log")).unwrap();
        let mut suite = self.command();
        suite.args(["--provider", "skeleton", "--disable-log-dump", "--report-dir"]).arg(&reports);
        suite.args(["-ginkgo.focus", SPECS.0, "-ginkgo.skip", SPECS.1]).stdin(Stdio::null());
        suite.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let report = fs::read_to_string(reports.join("junit_01.xml")).expect("the suite's report");
        report.split("<testcase ").skip(1).filter_map(verdict).collect()
    }
}

/// A case of a JUnit report; `None` of what was not run.
fn verdict(case: &str) -> Option<(String, Verdict)> {
    let name = case.strip_prefix("name=\"")?.split('"').next()?;
    if !name.contains("[sig-network]") || case.contains("<skipped") {
        return None;
    }
    let failed = case.contains("<failure") || case.contains("<error");
    Some((name.to_owned(), if failed { Verdict::Failed } else { Verdict::Passed }))
}
