//! One rtnetlink socket: requests go out, verdicts and records come back.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netdevice::{index_to_name, name_to_index};
use selvedge_model::IfName;
use selvedge_netns::Namespace;
use selvedge_wire::{Request, Socket, flag};

use crate::error::{NetlinkError, Refusal};
use crate::sysctl::Sysctls;

/// How often a dump is tried that other changes interrupt.
const DUMP_TRIES: u32 = 16;

/// The most requests in one datagram: their refusals must fit the socket's receive buffer, where each takes about
/// 1 KiB of the usual 208.
pub(crate) const BATCH: usize = 64;

/// A socket to the kernel's links, addresses and routes, and the sysctls beside them, of one network namespace.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
    pub(crate) sysctls: Sysctls,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's namespace. Sysctls are those of whatever thread applies them.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = open_socket(&[]).map_err(|errno| NetlinkError::Open { source: errno.into() })?;
        Ok(Self { socket, sysctls: Sysctls::current() })
    }

    /// Opens a socket inside a namespace, for use from any thread.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] and [`NetlinkError::Namespace`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, NetlinkError> {
        let sysctls = Sysctls::within(namespace.try_clone()?);
        Ok(Self { sysctls, ..namespace.run(Self::open)?? })
    }

    /// The same with the sysctls somewhere else than below `/proc/sys`.
    #[must_use]
    pub fn with_sysctls(self, sysctls: Sysctls) -> Self {
        Self { sysctls, ..self }
    }

    /// The socket's number, which notifications of its changes carry (see [`crate::Notification::sender`]).
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// True if there is a link of that name. Costs less than to look at it.
    ///
    /// # Errors
    /// [`NetlinkError::Read`] if that can't be asked.
    pub fn has_link(&self, name: &IfName) -> Result<bool, NetlinkError> {
        let index =
            self.index_if_there(name).map_err(|source| NetlinkError::Read { what: "link", source })?;
        Ok(index.is_some())
    }

    /// The index of a link, by any of its names.
    pub(crate) fn index_of(&self, name: &IfName) -> Result<u32, Refusal> {
        Ok(name_to_index(&self.socket, name.as_str())?)
    }

    /// The same; `None` if there is no such link, which a question that can't be asked doesn't show.
    pub(crate) fn index_if_there(&self, name: &IfName) -> Result<Option<u32>, Refusal> {
        match self.index_of(name) {
            Err(refusal) if refusal.errno() == libc::ENODEV => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The name of a link; `None` if there is no such link, or its name is none that [`IfName`] takes.
    pub(crate) fn name_of(&self, index: u32) -> Option<IfName> {
        index_to_name(&self.socket, index).ok()?.parse().ok()
    }

    /// Carries out up to [`BATCH`] requests, sent as one datagram; one verdict each, in order. A refused one does not
    /// keep the following from being carried out.
    pub(crate) fn exchange(&mut self, requests: Vec<Request>) -> Vec<Result<(), Refusal>> {
        let count = requests.len();
        let mut verdicts = vec![Ok(()); count];
        let mut datagram = Vec::with_capacity(256 * count);
        let mut sequence = 0;
        for (i, request) in requests.iter().enumerate() {
            sequence = self.socket.next_sequence();
            // Refusals come unasked; the last request's acknowledgement says that there will be no more of them.
            let acknowledge = if i + 1 == count { flag::ACK } else { 0 };
            request.write(sequence, acknowledge, &mut datagram);
        }
        if count > 0
            && let Err(errno) = self.collect(&datagram, sequence, &mut verdicts)
        {
            verdicts.fill(Err(errno.into()));
        }
        verdicts
    }

    /// Carries out one request.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Refusal> {
        self.socket.ask(&request, |_| {}).map(|_| ())
    }

    /// The records that answer a dump request, as far as `read` makes something of them.
    pub(crate) fn read_all<T>(
        &mut self,
        what: &'static str,
        request: &Request,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let mut records = Vec::new();
            let answer = self.socket.ask(request, |message| records.extend(read(message.payload)));
            let interrupted = answer.map_err(|source| NetlinkError::Read { what, source })?;
            if !interrupted {
                return Ok(records);
            }
        }
        Err(NetlinkError::Unsettled { what, tries: DUMP_TRIES })
    }

    /// The record that answers a request for one object.
    pub(crate) fn read_one<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let mut record = None;
        self.socket.ask(request, |message| record = read(message.payload))?;
        Ok(record)
    }

    /// Sends requests of which the last has that number, and enters their refusals until the last one's verdict.
    fn collect(
        &mut self,
        datagram: &[u8],
        last: u32,
        verdicts: &mut [Result<(), Refusal>],
    ) -> Result<(), Errno> {
        self.socket.send(datagram)?;
        loop {
            for message in self.socket.receive()? {
                let Some(verdict) = message.verdict() else { continue };
                // Counted from the end; beyond the beginning is what answers an earlier request.
                let Ok(i) = usize::try_from(last.wrapping_sub(message.sequence)) else { continue };
                if let Some(entry) = verdicts.iter_mut().nth_back(i) {
                    *entry = verdict;
                }
                if i == 0 {
                    return Ok(());
                }
            }
        }
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens a socket that hears those groups, with checked dump requests.
pub(crate) fn open_socket(groups: &[u32]) -> Result<Socket, Errno> {
    let socket = Socket::open(None, groups)?;
    // Before Linux 4.20 dumps come unfiltered, and reading filters them anyway.
    match socket.check_dumps() {
        Ok(()) | Err(_) => {}
    }
    Ok(socket)
}
