//! The agent's socket, as far as the plugin speaks to it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selvedge_cni::{CniError, NetConf, code};
use selvedge_datapath::attachment::Attachment;
use serde_json::Value;

use crate::termination::Termination;

/// How long the agent may take to accept a line.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long ADD waits for an agent to have an attachment in force.
const ADMISSION: Duration = Duration::from_secs(25);

/// The same where no agent has to.
const COURTESY: Duration = Duration::from_secs(1);

/// The file in the run directory that the agent makes once it has been ready. The directory is emptied by a reboot.
pub(crate) const READY: &str = "ready";

/// The agent's socket in its run directory.
const SOCKET: &str = "agent.sock";

/// Asks the agent to delete what is in the reap group; false if there is no agent to ask.
pub(crate) fn ask_to_reap(socket: &Path) -> bool {
    say(socket, "{\"do\":\"reap\"}\n").is_ok()
}

/// Waits until an agent takes connections, where ADD needs one: a pod is wired only where somebody is there to let it in.
/// When the waiting began.
pub(crate) fn reach(conf: &NetConf, termination: &Termination) -> Result<Instant, CniError> {
    let began = Instant::now();
    if let (Some(socket), false) = (&conf.agent, conf.without_agent) {
        let connect = || UnixStream::connect(socket).map(drop).map_err(|why| why.to_string());
        retry(socket, (began + ADMISSION, termination), connect)?;
    }
    Ok(began)
}

/// Waits until the agent has the attachment's addresses and policy in force. Fails with code 11 if it doesn't in time;
/// where no agent is named, or pods don't wait for it, one that is there is told, and that is all.
pub(crate) fn admit(
    conf: &NetConf,
    attachment: &Attachment,
    (began, termination): (Instant, &Termination),
) -> Result<(), CniError> {
    let socket: PathBuf = conf.agent.clone().unwrap_or_else(|| conf.run_dir.join(SOCKET));
    let needed = conf.agent.is_some() && !conf.without_agent;
    let until = began + if needed { ADMISSION } else { COURTESY };
    let (host, owner) = (&attachment.host, attachment.owner());
    let ask = || {
        let waited = began.elapsed().as_millis();
        // Neither name has a character that JSON would escape.
        let asked =
            format!("{{\"admit\":{{\"host\":\"{host}\",\"owner\":\"{owner}\",\"waited\":{waited}}}}}\n");
        match ask(&socket, &asked, (until, termination)) {
            Ok(answer) if answer.get("ok").is_some() => Ok(()),
            Ok(answer) => Err(answer["error"].as_str().unwrap_or("it gave no answer").to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    match needed {
        true => retry(&socket, (until, termination), ask),
        false => ask().or(Ok(())),
    }
}

/// Tries until it works.
fn retry(
    socket: &Path,
    (until, termination): (Instant, &Termination),
    work: impl Fn() -> Result<(), String>,
) -> Result<(), CniError> {
    loop {
        termination.check()?;
        let Err(why) = work() else { return Ok(()) };
        termination.check()?;
        if Instant::now() >= until {
            let message = format!("selvedge-agent at {} has not let the pod in: {why}", socket.display());
            return Err(CniError::new(code::TRY_AGAIN, message));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn say(socket: &Path, line: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(line.as_bytes())?;
    Ok(stream)
}

/// What the agent answers, `null` if it ends without.
fn ask(socket: &Path, line: &str, (until, termination): (Instant, &Termination)) -> io::Result<Value> {
    let mut stream = say(socket, line)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut answer, mut part) = (Vec::new(), [0; 512]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(serde_json::from_slice(&answer).unwrap_or_default()),
            Ok(count) => answer.extend(part.iter().take(count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if Instant::now() >= until || termination.check().is_err() {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
