//! `selvedge-agent`: keeps one node's part of the pod network as the cluster wants it.

mod check;
mod config;
mod counting;
mod explaining;
mod flags;
mod leases;
mod packets;
mod publishing;
mod reaching;
mod serve;
mod trying;
mod uninstall;
mod watch;
mod wiring;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use selvedge_explain::matrix;
use selvedge_model::chain;
use selvedge_policy::Netlog;
use selvedge_reconcile::{Admissions, Host, Paths, Patience, Reconciler, Status, Trigger, Tunnel};
use tracing::{error, info};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Config;
use crate::counting::Counters;
use crate::explaining::Decided;
use crate::flags::{Flags, Places, Task};
use crate::leases::Caretaker;
use crate::packets::Lost;
use crate::publishing::Publisher;
use crate::reaching::Reaching;
use crate::wiring::{Policies, Setup, Tunnels, Ways};

/// How long an ADD is kept waiting, within the 25 seconds that it has.
const PATIENCE: Patience = Patience {
    free: Duration::from_secs(1),
    isolated: Duration::from_secs(20),
    at_a_time: Duration::from_secs(1),
};

/// The plugin's file name, by which the conflist calls it.
const PLUGIN: &str = "selvedge";

fn main() -> ExitCode {
    let task = Task::parse_or_exit();
    // What the API's client says of its troubles comes to us as errors too, and is told once, in words.
    let ours = filter_fn(|at| !at.target().starts_with("kube_"));
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO);
    lines.finish().with(ours).init();
    let done = match &task {
        Task::Run(flags) => run(flags).map(|()| ExitCode::SUCCESS),
        Task::Check(flags) => check::check(flags),
        Task::Uninstall(flags) => uninstall::uninstall(flags),
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            error!("{}", chain(why.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal asks for the end. What is in the kernel stays there, and pods notice nothing.
fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let config = configuration(&flags.at)?;
    let plugin = flags.at.cni_bin_dir.join(PLUGIN);
    let mut host = Host::open(paths(flags, &config, &plugin))?;
    let mut setup = setup(flags, (config, plugin), &mut host)?;
    let status = Arc::new(Mutex::new(Status::starting(flags.node.as_str(), env!("CARGO_PKG_VERSION"))));
    let (triggers, received) = mpsc::channel();
    watch::signals(triggers.clone())?;
    let (admissions, lost) = (Admissions::default(), Lost::default());
    let caretaker = leases::start(&setup, Arc::clone(&status))?;
    let _serving = serve::start(serve::Options {
        run_dir: flags.at.run_dir.clone(),
        listen: flags.listen,
        status: Arc::clone(&status),
        patience: (setup.config.resync * 2).max(Duration::from_secs(60)),
        on_reap: Box::new({
            let caretaker = caretaker.clone();
            move || caretaker.reap()
        }),
        figures: figures(&setup, lost.clone())?,
        on_explain: explain(&setup),
        on_try: try_out(&setup),
        on_matrix: reach(&setup),
        on_admit: admit(triggers.clone(), admissions.clone()),
        on_reconcile: reconcile(triggers.clone(), caretaker),
    })?;
    // The kernel is listened to before it is first looked at, so that nothing falls between.
    watch::kernel(triggers.clone())?;
    packets::tell(&setup, lost)?;
    setup.reaching.start(triggers.clone())?;
    let keys = setup.config.wireguard.keys.as_deref().filter(|_| flags.source.manifests.is_some());
    setup.publisher = Publisher::start(&setup.node, keys)?;
    let _source = watch::source(flags, triggers.clone(), (&status, &setup))?;
    watch::start(triggers)?;
    info!(node = %setup.node, version = env!("CARGO_PKG_VERSION"), "selvedge-agent started");
    let resync = setup.config.resync;
    let decide = move |known: Option<(&_, _)>, observed: &_| setup.decide(known, observed);
    Reconciler::new(host, decide, resync, status).admitting(admissions).run(&received);
    info!("selvedge-agent ends; what it made stays");
    Ok(())
}

/// What stays the same as long as the agent runs.
fn setup(
    flags: &Flags,
    (config, plugin): (Config, PathBuf),
    host: &mut Host,
) -> Result<Setup, Box<dyn Error>> {
    let kernel = host.features()?;
    Ok(Setup {
        started: Instant::now(),
        node: flags.node.clone(),
        run_dir: flags.at.run_dir.clone(),
        plugin,
        tunnel: flags.tunnel.program(),
        installs: flags.at.plugin.is_some(),
        knows_pods: flags.source.manifests.is_none(),
        sysctls: flags.at.sysctl_dir.clone(),
        owns_tables: kernel.owned_tables,
        kernel: version(rustix::system::uname().release().to_string_lossy().as_ref()),
        has_vxlan: host.has_vxlan(),
        has_wireguard: host.has_wireguard(),
        netlog: if kernel.packet_log { Netlog::Present } else { Netlog::Missing },
        config,
        policies: Policies::default(),
        tunnels: Tunnels::default(),
        ways: Ways::default(),
        reaching: Reaching::after(flags.at.run_dir.join("given-up")),
        decided: Decided::default(),
        publisher: Publisher::default(),
    })
}

/// The first two numbers of a kernel's release; one that can't be read is taken for a new one.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// Has the loop make a pass, and leases compared with the kernel.
fn reconcile(triggers: Sender<Trigger>, caretaker: Caretaker) -> serve::Callback {
    Box::new(move || {
        caretaker.collect();
        send(&triggers, Trigger::Asked);
    })
}

/// Answers from what was last decided and measured.
fn explain(setup: &Setup) -> serve::Explain {
    let (node, decided, reaching) = (setup.node.clone(), setup.decided.clone(), setup.reaching.clone());
    Box::new(move |query| {
        decided.explain(&node, &reaching.findings(), query).map_err(|why| chain(why.as_ref()))
    })
}

/// What there is to count of policies.
fn figures(setup: &Setup, lost: Lost) -> io::Result<serve::Figures> {
    let counters = Counters::start(setup.decided.clone())?;
    Ok(Box::new(move || serve::Policies { totals: counters.totals(), lost: lost.count() }))
}

/// Says who reaches whom by what was last decided.
fn reach(setup: &Setup) -> serve::Reach {
    let (node, decided) = (setup.node.clone(), setup.decided.clone());
    Box::new(move |filter| {
        let (policed, _) = decided.last()?;
        matrix(&policed.cluster, node.as_str(), filter).map_err(|why| why.to_string())
    })
}

/// Says what manifests would change, one proposal at a time: each takes memory for a cluster of its own.
fn try_out(setup: &Setup) -> serve::Try {
    let (node, decided, turn) = (setup.node.clone(), setup.decided.clone(), Mutex::new(()));
    Box::new(move |proposal| {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        trying::preview(&decided, &node, proposal).map_err(|why| chain(why.as_ref()))
    })
}

/// Has the loop look at a host end at once, and waits until it is in force.
fn admit(triggers: Sender<Trigger>, admissions: Admissions) -> serve::Admit {
    Box::new(move |host, owner, waited| {
        send(&triggers, Trigger::Admit(host.clone()));
        admissions.wait((host, owner), waited, PATIENCE)
    })
}

/// What of the node is this agent's.
fn paths(flags: &Flags, config: &Config, plugin: &Path) -> Paths {
    Paths {
        network: config.network.clone(),
        bridge: config.bridge.clone(),
        conflist: flags.at.cni_conf_dir.join(config.conflist_name.as_str()),
        plugin: flags.at.plugin.clone().map(|given| (given, plugin.to_owned())),
        sysctls: flags.at.sysctl_dir.clone(),
        ready: flags.at.run_dir.join("ready"),
        forward_accept: config.forward_accept,
        tunnel: Some(Tunnel { program: flags.tunnel.program(), run_dir: flags.at.run_dir.clone() }),
    }
}

fn configuration(at: &Places) -> Result<Config, Box<dyn Error>> {
    let Some(file) = &at.config else { return Ok(Config::default()) };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|why| format!("read the configuration {}: {why}", file.display()))?;
    Ok(Config::parse(&text, file)?)
}

fn send(triggers: &Sender<Trigger>, trigger: Trigger) {
    // Nobody receives any more only when the agent ends.
    triggers.send(trigger).ok();
}
