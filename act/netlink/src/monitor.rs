//! The kernel's notifications.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use netlink_sys::Socket;
use selvedge_datapath::state::Address;
use selvedge_model::IfName;
use selvedge_netns::Namespace;

use crate::error::NetlinkError;
use crate::record;
use crate::socket::{open_socket, receive_datagram};
use crate::wire::{self, Message};

/// Bytes that may wait to be read; what is beyond them is lost, and said to be.
const RECEIVE_BUFFER: usize = 1 << 20;

const GROUPS: [libc::c_uint; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];

/// A subscription to changes of links, addresses, main-table routes and routing rules.
///
/// What it tells is a reason to look again, no substitute for looking: the kernel says nothing of the IPv4 routes
/// that go when a link goes down or an address goes.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
    waiting: VecDeque<Notification>,
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What happened.
    pub event: Event,
    /// The number of the socket that asked for it ([`crate::RouteSocket::port`]), as far as the kernel tells; 0
    /// where it doesn't, and for the kernel's own doing.
    pub sender: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link was made, changed or deleted.
    Link {
        /// Its name.
        name: IfName,
        /// Its index.
        index: u32,
        /// It was deleted, or moved to another namespace.
        gone: bool,
    },
    /// An address was added, changed or deleted.
    Address {
        /// The index of its link.
        device: u32,
        /// The address.
        address: Address,
        /// It was deleted.
        gone: bool,
    },
    /// A unicast route of the main table was added, replaced or deleted.
    Route {
        /// Where it leads.
        destination: IpNet,
        /// The index of its device; of several, the first.
        device: u32,
        /// It was deleted.
        gone: bool,
    },
    /// A routing rule was added or deleted.
    Rule {
        /// It was deleted.
        gone: bool,
    },
    /// Notifications came faster than they were read, and some are lost: anything may have changed.
    Lost,
}

impl Monitor {
    /// Subscribes in the calling thread's namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Watch`].
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = subscribe().map_err(|source| NetlinkError::Watch { source })?;
        Ok(Self { socket, buffer: Vec::new(), waiting: VecDeque::new() })
    }

    /// Subscribes in another namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Watch`], [`NetlinkError::Namespace`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, NetlinkError> {
        namespace.run(Self::open)?
    }

    /// The next notification, `None` if nothing waits. Poll the descriptor for reading, then call this until `None`.
    ///
    /// # Errors
    /// [`NetlinkError::Watch`].
    pub fn next_event(&mut self) -> Result<Option<Notification>, NetlinkError> {
        while self.waiting.is_empty() {
            match receive_datagram(&self.socket, &mut self.buffer) {
                Ok(()) => self.waiting.extend(wire::messages(&self.buffer).filter_map(notification)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Notification { event: Event::Lost, sender: 0 }));
                }
                Err(source) => return Err(NetlinkError::Watch { source }),
            }
        }
        Ok(self.waiting.pop_front())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn subscribe() -> io::Result<Socket> {
    let (socket, _) = open_socket()?;
    // Beyond the system's limit with CAP_NET_ADMIN; without it, up to the limit.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Reads a notification; `None` for those of other tables and kinds.
fn notification(message: Message<'_>) -> Option<Notification> {
    let payload = message.payload;
    let event = match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            // A bridge tells of its ports too, in the same words: RTM_DELLINK there means the port, not the link.
            if payload.first().copied().map(i32::from) == Some(libc::AF_BRIDGE) {
                return None;
            }
            let link = record::link(payload)?;
            Event::Link { name: link.name, index: link.link.index, gone: message.kind == libc::RTM_DELLINK }
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let (device, address) = record::address(payload)?;
            Event::Address { device, address, gone: message.kind == libc::RTM_DELADDR }
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let route = record::route(payload)?.into_iter().next()?;
            let gone = message.kind == libc::RTM_DELROUTE;
            Event::Route { destination: route.destination, device: route.device, gone }
        }
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Event::Rule { gone: message.kind == libc::RTM_DELRULE },
        _ => return None,
    };
    Some(Notification { event, sender: message.port })
}
