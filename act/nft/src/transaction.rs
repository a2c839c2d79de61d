//! Listing and changing tables.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use selvedge_ruleset::listed::Counted;
use selvedge_ruleset::rule::log;
use selvedge_ruleset::{
    ChainName, Change, Command, Family, Listed, LogPrefix, Ownership, TableId, Transaction, rule,
};
use selvedge_wire::{Request, Socket, Writer};

use crate::error::NftError;
use crate::list::{self, Depth};
use crate::message::{kind, messages};
use crate::socket::{self, header};

/// How often something is tried that others' changes can get in the way of.
const ATTEMPTS: u32 = 20;
/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u16 = 10;
/// `NFNL_BATCH_GENID`
const BATCH_GENERATION: u16 = 1;

/// A socket that lists and changes nftables of the network namespace in which it was opened.
///
/// It owns the tables that it makes or adopts with `owned`: keep it open. When it is closed they stay, as orphans.
#[derive(Debug)]
pub struct NftSocket {
    pub(crate) socket: Socket,
}

/// What this kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Tables can have an owner and outlive it (Linux 6.9).
    pub owned_tables: bool,
    /// Rules can tell of packets to groups of the netfilter log (CONFIG_NETFILTER_NETLINK_LOG).
    pub packet_log: bool,
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NftError> {
        let socket = socket::open(&[]).map_err(|errno| NftError::Open { source: errno.into() })?;
        Ok(Self { socket })
    }

    /// Asks the kernel what it can do; changes nothing.
    pub fn features(&mut self) -> Result<Features, NftError> {
        let table = TableId::literal(Family::Inet, "selvedge-probe");
        let (chain, told) = (ChainName::literal("probe"), rule![log(LogPrefix::default(), 1)]);
        let tells = [
            Change::AddTable { owned: false },
            Change::AddChain(chain.clone(), None),
            Change::AddRule { chain, before: None, rule: told },
        ];
        Ok(Features {
            owned_tables: self.takes(&table, [Change::AddTable { owned: true }])?,
            packet_log: self.takes(&table, tells)?,
        })
    }

    /// Whether the kernel would take these changes, which are not made.
    fn takes(
        &mut self,
        table: &TableId,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<bool, NftError> {
        let mut batch = Vec::new();
        begin(None).write(self.socket.next_sequence(), 0, &mut batch);
        for change in changes {
            for message in messages(&Command { table: table.clone(), change }) {
                message.write(self.socket.next_sequence(), 0, &mut batch);
            }
        }
        // A batch without an end is checked and not committed.
        match self.errors(&batch)?.first() {
            None => Ok(true),
            Some((_, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOENT)) => Ok(false),
            Some((_, errno)) => {
                Err(NftError::List { what: "what nf_tables can do".to_owned(), source: (*errno).into() })
            }
        }
    }

    /// The tables with those ids as they are at one moment; one that isn't there has no entry.
    pub fn list(&mut self, ids: &[TableId]) -> Result<Listed, NftError> {
        self.steady("tables", |socket| list::tables(socket, ids, Depth::Elements)).map(|(listed, _)| listed)
    }

    /// The rules of a table that count, with their counts; none if it isn't there.
    pub fn counted(&mut self, table: &TableId) -> Result<Vec<Counted>, NftError> {
        self.steady("counters", |socket| list::counted(socket, table)).map(|(counted, _)| counted)
    }

    /// The number of the present generation of rules.
    pub(crate) fn generation(&mut self) -> Result<u32, NftError> {
        let generation = list::generation(&mut self.socket);
        generation.map_err(|errno| NftError::List { what: "the generation".to_owned(), source: errno.into() })
    }

    /// True if a table has a chain of that name. One question, whatever else is in the table.
    pub fn has_chain(&mut self, table: &TableId, chain: &ChainName) -> Result<bool, NftError> {
        let has = list::has_chain(&mut self.socket, table, chain);
        has.map_err(|errno| NftError::List { what: format!("chain {table} {chain}"), source: errno.into() })
    }

    /// Looks until nothing changed while it looked; also gives the generation of rules that it saw.
    pub(crate) fn steady<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Socket) -> Result<T, Errno>,
    ) -> Result<(T, u32), NftError> {
        let socket = &mut self.socket;
        for _ in 0..ATTEMPTS {
            let mut once = || {
                let before = list::generation(socket)?;
                let seen = look(socket)?;
                Ok((list::generation(socket)? == before).then_some((seen, before)))
            };
            match once() {
                Ok(Some(seen)) => return Ok(seen),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(NftError::List { what: what.to_owned(), source: Errno::into(errno) });
                }
            }
        }
        Err(NftError::Restless { attempts: ATTEMPTS })
    }

    /// Makes all changes at once, or none of them.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        for _ in 1..ATTEMPTS {
            match self.commit(transaction, None) {
                Err(Failure::Again) => {}
                Err(Failure::Final(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
        Err(NftError::Restless { attempts: ATTEMPTS })
    }

    /// Lists tables, decides on changes to them, and makes those only if nobody has changed anything meanwhile;
    /// otherwise all over again. Gives back what was done.
    ///
    /// This is the way to change a table that others change too.
    pub fn update(
        &mut self,
        ids: &[TableId],
        decide: impl FnMut(&Listed) -> Transaction,
    ) -> Result<Transaction, NftError> {
        self.settle("tables", |socket| list::tables(socket, ids, Depth::Elements), decide)
    }

    /// The same for who doesn't care for sets: of those it is only shown that they are there.
    pub fn update_rules(
        &mut self,
        ids: &[TableId],
        decide: impl FnMut(&Listed) -> Transaction,
    ) -> Result<Transaction, NftError> {
        self.settle("tables", |socket| list::tables(socket, ids, Depth::Rules), decide)
    }

    /// Looks, decides, and changes only what is still as it was seen.
    pub(crate) fn settle<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Socket) -> Result<T, Errno>,
        mut decide: impl FnMut(&T) -> Transaction,
    ) -> Result<Transaction, NftError> {
        for _ in 0..ATTEMPTS {
            let (seen, generation) = self.steady(what, &mut look)?;
            let transaction = decide(&seen);
            match self.commit(&transaction, Some(generation)) {
                Err(Failure::Again) => {}
                Err(Failure::Final(error)) => return Err(error),
                Ok(()) => return Ok(transaction),
            }
        }
        Err(NftError::Restless { attempts: ATTEMPTS })
    }

    fn commit(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), Failure> {
        if transaction.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::new();
        let mut origins: BTreeMap<u32, &Command> = BTreeMap::new();
        begin(generation).write(self.socket.next_sequence(), 0, &mut batch);
        for command in transaction.commands() {
            for message in messages(command) {
                let sequence = self.socket.next_sequence();
                message.write(sequence, 0, &mut batch);
                origins.insert(sequence, command);
            }
        }
        batch_edge(kind::BATCH_END, |_| {}).write(self.socket.next_sequence(), 0, &mut batch);
        let errors = self.errors(&batch).map_err(Failure::Final)?;
        match errors.first() {
            None => Ok(()),
            Some((_, Errno::INTR | Errno::AGAIN | Errno::RESTART)) => Err(Failure::Again),
            Some((sequence, errno)) => {
                let command = origins.get(sequence).copied();
                Err(Failure::Final(self.refused(command, *errno)))
            }
        }
    }

    /// Sends a batch and gives back the failures, in the order of the messages.
    fn errors(&mut self, batch: &[u8]) -> Result<Vec<(u32, Errno)>, NftError> {
        let failed = |errno: Errno| NftError::Send { bytes: batch.len(), source: errno.into() };
        self.socket.send(batch).map_err(failed)?;
        // The kernel has handled the batch when send returns, so all results are there.
        socket::failures(&mut self.socket).map_err(failed)
    }

    fn refused(&mut self, command: Option<&Command>, errno: Errno) -> NftError {
        let Some(command) = command else {
            return NftError::RefusedAll { source: errno.into() };
        };
        let table = &command.table;
        if matches!(errno, Errno::PERM | Errno::OPNOTSUPP)
            && let Ok(Some(listed)) = list::table(&mut self.socket, table)
            && let Ownership::Other { portid } = listed.ownership
        {
            return NftError::Owned { table: table.clone(), portid };
        }
        NftError::Refused { command: shortened(command), source: errno.into() }
    }
}

impl AsFd for NftSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

enum Failure {
    /// Something came between; the same may succeed now.
    Again,
    Final(NftError),
}

/// A command with thousands of elements helps nobody.
fn shortened(command: &Command) -> String {
    const LONGEST: usize = 400;
    let mut text = command.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

fn begin(generation: Option<u32>) -> Request {
    batch_edge(kind::BATCH_BEGIN, |w| {
        if let Some(generation) = generation {
            w.u32_be(BATCH_GENERATION, generation);
        }
    })
}

fn batch_edge(kind: u16, write: impl FnOnce(&mut Writer)) -> Request {
    Request::new(kind, 0, &header(0, 0, NFTABLES), write)
}
