//! `selvedge-agent check`: whether this node could serve pods, before anything is changed.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_cni::conflist;
use selvedge_datapath::preflight::{self, Finding, Verdict, Wishes};
use selvedge_model::{Cluster, NodeName, chain};
use selvedge_reconcile::{Sight, configurations, look};
use selvedge_source::kubernetes::{self, Reach};
use serde_json::{Value, json};

use crate::flags::{CheckFlags, Source};

/// How long the API has to tell of the cluster's nodes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks, judges and prints; 1 if anything keeps pods from being served.
pub(crate) fn check(flags: &CheckFlags) -> Result<ExitCode, Box<dyn Error>> {
    let config = crate::configuration(&flags.at)?;
    let places = flags.at.of(&config);
    let sight = Sight {
        places: places.clone(),
        given: flags.at.plugin.clone(),
        sysctls: flags.at.sysctl_dir.clone(),
        listen: flags.listen,
    };
    let mut facts = look(&sight)?;
    let (names, texts) = configurations(&places)?;
    let conflist = config.conflist_name.as_str();
    // What an agent wrote under another name it takes away itself.
    let earlier = conflist::superseded(&texts, conflist, &places.run_dir);
    let others = names.iter().filter(|name| !earlier.contains(*name));
    let rivals = conflist::rivals(others.map(String::as_str), conflist);
    (facts.taken, facts.passed_over) = (rivals.before, rivals.after);
    if flags.pod_cidr.is_empty() {
        match cluster(&flags.source) {
            Ok(cluster) => {
                facts.pod_cidrs = of_nodes(&cluster);
                facts.no_node = flags.node.clone().filter(|node| !cluster.nodes().contains_key(node));
            }
            Err(why) => {
                let is_named = flags.source.manifests.is_some() || flags.source.kubeconfig.is_some();
                facts.no_cluster = Some((if is_named { Verdict::Blocks } else { Verdict::Note }, why));
            }
        }
    } else {
        facts.pod_cidrs = flags.pod_cidr.iter().map(IpNet::trunc).collect();
    }
    let wishes =
        Wishes { attach: config.attach, bridge: config.bridge, forward_accept: config.forward_accept };
    let findings = preflight::judge(&facts, &wishes);
    let blocked = findings.iter().any(|finding| finding.verdict == Verdict::Blocks);
    let text = if flags.json { as_json(&findings, blocked) } else { screen(&findings, blocked) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if blocked { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn screen(findings: &[Finding], blocked: bool) -> String {
    let mut lines: Vec<String> = findings
        .iter()
        .map(|Finding { verdict, about, found }| {
            let found: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("{verdict:<8} {about:<11} {found}")
        })
        .collect();
    let last = if blocked { "this node can't serve pods yet" } else { "this node can serve pods" };
    lines.push(format!("{last}; nothing was changed\n"));
    lines.join("\n")
}

fn as_json(findings: &[Finding], blocked: bool) -> String {
    let word = |verdict: Verdict| verdict.to_string().to_lowercase();
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({"verdict": word(finding.verdict), "about": finding.about, "found": finding.found})
        })
        .collect();
    format!("{:#}\n", json!({"ok": !blocked, "findings": findings}))
}

/// The cluster, or why it can't be had.
fn cluster(source: &Source) -> Result<Cluster, String> {
    let (tell, told) = channel();
    let _source: Box<dyn std::any::Any> = if let Some(directory) = &source.manifests {
        let watcher = selvedge_source::spawn(directory.as_path(), move |snapshot| {
            tell.send(Ok(snapshot.cluster)).ok();
            ControlFlow::Break(())
        });
        Box::new(watcher.map_err(|error| chain(&error))?)
    } else {
        let reach = match &source.kubeconfig {
            Some(file) => Reach::Kubeconfig(file.clone()),
            None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Reach::InCluster,
            None => return Err("no --pod-cidr, --kubeconfig or --manifests".to_owned()),
        };
        // Whose pods there are is of no matter here.
        let nobody = "selvedge-check".parse::<NodeName>().map_err(|error| error.to_string())?;
        let follower = kubernetes::follow(&reach, &nobody, move |update| match update.cluster {
            Some(cluster) => {
                tell.send(Ok(cluster)).ok();
                ControlFlow::Break(())
            }
            None => {
                tell.send(Err(update.problems)).ok();
                ControlFlow::Continue(())
            }
        });
        Box::new(follower.map_err(|error| chain(&error))?)
    };
    let (until, mut why) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(cluster)) => return Ok(cluster),
            Ok(Err(problems)) => why = problems,
            Err(_timeout) => {
                let late = "the cluster's nodes could not be listed in time".to_owned();
                return Err([vec![late], why].concat().join(": "));
            }
        }
    }
}

fn of_nodes(cluster: &Cluster) -> BTreeSet<IpNet> {
    cluster.nodes().values().flat_map(|node| node.pod_cidrs.iter().copied()).collect()
}
