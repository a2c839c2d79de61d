//! What policies have admitted and denied, summed up over chains that come and go.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_datapath::firewall;
use selvedge_model::chain;
use selvedge_nft::{Departures, NftError, NftSocket};
use selvedge_policy::{Chains, Cluster, Counting, Totals, chains};
use tracing::warn;

use crate::explaining::Decided;

/// How often counters are read: before there are more rules that went than there is room for.
const EVERY: Duration = Duration::from_secs(5);
/// How old a reading may be that somebody asks for.
const FRESH: Duration = Duration::from_secs(1);

/// The counters of this node's kernel. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Counters(Arc<Mutex<Reader>>);

#[derive(Debug)]
struct Reader {
    decided: Decided,
    departures: Departures,
    counting: Counting,
    read_at: Option<Instant>,
}

impl Counters {
    /// Begins to read them: what the kernel has counted before is nobody's.
    pub(crate) fn start(decided: Decided) -> io::Result<Self> {
        let departures = Departures::open().map_err(io::Error::other)?;
        let reader = Reader { decided, departures, counting: Counting::default(), read_at: None };
        let counters = Self(Arc::new(Mutex::new(reader)));
        counters.totals();
        let read = counters.clone();
        thread::Builder::new().name("counters".to_owned()).spawn(move || {
            loop {
                thread::sleep(EVERY);
                read.totals();
            }
        })?;
        Ok(counters)
    }

    /// The sums, of a second ago at most.
    pub(crate) fn totals(&self) -> Totals {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.read_at.is_none_or(|at| at.elapsed() >= FRESH) {
            if let Err(error) = reader.read() {
                warn!(why = chain(&error), "the counters of policies are not read");
            }
            reader.read_at = Some(Instant::now());
        }
        reader.counting.totals().clone()
    }
}

impl Reader {
    fn read(&mut self) -> Result<(), NftError> {
        self.counting.take_gone(&self.departures.gone(&firewall::AGENT)?);
        let counted = NftSocket::open()?.counted(&firewall::AGENT)?;
        match self.decided.policed() {
            Some(policed) => {
                let chains = chains(&policed.cluster, &policed.local);
                self.counting.take(&counted, (&policed.cluster, chains));
            }
            None => self.counting.take(&counted, (&Cluster::default(), Chains::new())),
        }
        Ok(())
    }
}
