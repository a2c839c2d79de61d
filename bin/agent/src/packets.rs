//! Tells of packets that policy was about: one JSON document a line on the standard output, which has nothing else.
//!
//! A thread of its own listens to the kernel. It never keeps the loop waiting: where nobody takes its lines, packets wait
//! in the kernel as long as there is room, and those beyond are lost, which is counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use selvedge_explain::{Known, Told};
use selvedge_model::{NodeName, chain};
use selvedge_nft::{Heard, NftError, PacketLog};
use selvedge_policy::{LOG_GROUP, Netlog};
use selvedge_ruleset::Logged;
use serde::Serialize;
use tracing::warn;

use crate::explaining::Decided;
use crate::wiring::Setup;

/// After how long it is tried again to listen.
const RETRY: Duration = Duration::from_secs(5);

/// How often packets came faster than they could be told. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<AtomicU64>);

impl Lost {
    /// How often until now.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    /// When it was heard, in UTC.
    time: String,
    #[serde(flatten)]
    told: Told,
}

/// Tells of packets from now on, by what was last decided.
pub(crate) fn tell(setup: &Setup, lost: Lost) -> io::Result<()> {
    if setup.netlog == Netlog::Missing {
        warn!("this kernel has no nfnetlink_log: nothing is told of denied packets");
        return Ok(());
    }
    let teller = Teller { node: setup.node.clone(), decided: setup.decided.clone(), lost };
    thread::Builder::new().name("packets".to_owned()).spawn(move || teller.run()).map(drop)
}

struct Teller {
    node: NodeName,
    decided: Decided,
    lost: Lost,
}

impl Teller {
    /// Listens as long as the process lives.
    fn run(&self) {
        let mut last = String::new();
        loop {
            let Err(error) = PacketLog::open(LOG_GROUP).and_then(|mut log| self.listen(&mut log));
            let why = chain(&error);
            if why != last {
                warn!(why, "nothing is told of denied packets until that is mended");
                last = why;
            }
            thread::sleep(RETRY);
        }
    }

    fn listen(&self, log: &mut PacketLog) -> Result<std::convert::Infallible, NftError> {
        loop {
            while let Some(heard) = log.next_heard()? {
                match heard {
                    Heard::Packet(packet) => self.packet(&packet),
                    Heard::Lost => {
                        self.lost.0.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            match poll(&mut [PollFd::new(log, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(NftError::Packets { source: error.into() }),
            }
        }
    }

    fn packet(&self, logged: &Logged) {
        let Some(policed) = self.decided.policed() else { return };
        let known = Known { node: &self.node, cluster: &policed.cluster, local: &policed.local };
        let Some(told) = Told::of(logged, known) else { return };
        let line = Line { time: utc(SystemTime::now()), told };
        let Ok(mut text) = serde_json::to_string(&line) else { return };
        text.push('\n');
        // Whoever read may have gone.
        io::stdout().lock().write_all(text.as_bytes()).ok();
    }
}

/// A moment as RFC 3339 writes it, to the millisecond.
fn utc(moment: SystemTime) -> String {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last; eras have 400 of them.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_everybody_reads_it() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_798_761_599, "2026-12-31T23:59:59.007Z"),
            (1_798_761_600, "2027-01-01T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
            assert_eq!(utc(moment), expected);
        }
    }
}
