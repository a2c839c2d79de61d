//! The agent's socket, as far as the plugin speaks to it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the agent may take to accept a line.
const PATIENCE: Duration = Duration::from_millis(200);

/// The file in the run directory that the agent makes once it has been ready. The directory is emptied by a reboot.
pub(crate) const READY: &str = "ready";

/// Asks the agent to delete what is in the reap group; false if there is no agent to ask.
pub(crate) fn ask_to_reap(socket: &Path) -> bool {
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"{\"do\":\"reap\"}\n")
    });
    asked.is_ok()
}
