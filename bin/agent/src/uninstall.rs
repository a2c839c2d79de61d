//! `selvedge-agent uninstall`: this node as if we had never been there.

use std::error::Error;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use selvedge_datapath::removal::{Marked, Removal};
use selvedge_leases::{PATIENCE, Wait, lock_node};
use selvedge_model::chain;
use selvedge_reconcile::Leaving;

use crate::flags::UninstallFlags;

/// How many attachments are named.
const NAMED: usize = 10;

/// What stays, and why.
const STAYS: &str = "sysctls stay as they are (net.ipv4.ip_forward and net.ipv6.conf.all.forwarding among them): nobody \
                     knows who else counts on them";

/// Removes what is ours, telling each step. Fails, with nothing changed, where an agent runs or pods are attached.
pub(crate) fn uninstall(flags: &UninstallFlags) -> Result<ExitCode, Box<dyn Error>> {
    let config = crate::configuration(&flags.at)?;
    let run_dir = &flags.at.run_dir;
    if UnixStream::connect(run_dir.join("agent.sock")).is_ok() {
        let running =
            "an agent runs on this node and would put everything back: end it first, with its DaemonSet";
        return Err(running.into());
    }
    let mut leaving = Leaving::open(flags.at.of(&config))?;
    let marked = leaving.find()?;
    refuse_pods(&marked, flags)?;
    let mut out = io::stdout().lock();
    if flags.dry_run {
        marked.removal().iter().try_for_each(|step| writeln!(out, "{step}"))?;
        tell_what_stays(&marked, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Calls of the plugin that are at work end first.
    let lock = run_dir.is_dir().then(|| lock_node(run_dir, &Wait::most(PATIENCE))).transpose()?;
    let failed = remove(&mut leaving, &marked.removal(), &mut out)?;
    drop(lock);
    // Who came in before the configuration was gone.
    let left = leaving.find()?;
    let failed = failed + remove(&mut leaving, &left.removal(), &mut out)?;
    leaving.close();
    tell_what_stays(&left, &mut out)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn refuse_pods(marked: &Marked, flags: &UninstallFlags) -> Result<(), String> {
    let attached = marked.attachments();
    if attached.is_empty() || flags.with_pods || flags.dry_run {
        return Ok(());
    }
    let named: Vec<String> = attached.iter().take(NAMED).map(|(_, owner)| owner.key.to_string()).collect();
    let more = if attached.len() > NAMED { " and more" } else { "" };
    Err(format!(
        "{} pods are attached and would lose their network: drain the node, or say --with-pods ({}{more})",
        attached.len(),
        named.join(", ")
    ))
}

fn tell_what_stays(marked: &Marked, out: &mut impl Write) -> io::Result<()> {
    marked.plugin_stays().iter().try_for_each(|why| writeln!(out, "{why}"))?;
    writeln!(out, "{STAYS}")
}

/// Makes every step whatever becomes of the others; how many failed.
fn remove(leaving: &mut Leaving, steps: &[Removal], out: &mut impl Write) -> io::Result<usize> {
    let mut failed = 0;
    for step in steps {
        match leaving.remove(step) {
            Ok(()) => writeln!(out, "done    {step}")?,
            Err(error) => {
                failed += 1;
                writeln!(out, "FAILED  {step}: {}", chain(&error))?;
            }
        }
    }
    Ok(failed)
}
