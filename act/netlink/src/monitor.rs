//! The kernel's notifications.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use rustix::io::Errno;
use selvedge_datapath::announced::{Announced, Object};
use selvedge_datapath::state::Address;
use selvedge_model::IfName;
use selvedge_netns::Namespace;
use selvedge_wire::{Message, Socket};

use crate::error::NetlinkError;
use crate::record::RouteRecord;
use crate::socket::open_socket;
use crate::{overlay, record, request};

/// Bytes that may wait to be read; what is beyond them is lost, and said to be.
const RECEIVE_BUFFER: usize = 1 << 20;

const GROUPS: [u32; 8] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEIGH,
];

/// A subscription to changes of links, addresses, main-table routes, routing rules and neighbours.
///
/// What it tells is a reason to look again, no substitute for looking: the kernel says nothing of the IPv4 routes
/// that go when a link goes down or an address goes.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
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
    /// A unicast route of the main table, a neighbour of ours, or a forwarding entry of a tunnel was added, changed or
    /// deleted.
    Object(Announced),
    /// A route with several next hops was added, replaced or deleted.
    Multipath {
        /// Where it leads.
        destination: IpNet,
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
        let socket = open_socket(&GROUPS).map_err(|errno| NetlinkError::Watch { source: errno.into() })?;
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(Self { socket, waiting: VecDeque::new() })
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
            match self.socket.receive_waiting() {
                Ok(messages) => self.waiting.extend(messages.filter_map(notification)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => return Ok(Some(Notification { event: Event::Lost, sender: 0 })),
                Err(errno) => return Err(NetlinkError::Watch { source: errno.into() }),
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

fn route(hops: Vec<RouteRecord>, gone: bool) -> Option<Event> {
    let several = hops.len() > 1;
    let RouteRecord { destination, via, device, source, mtu, onlink, protocol } = hops.into_iter().next()?;
    let object = Object::Route { destination, via, source, mtu, onlink, protocol };
    Some(match several {
        true => Event::Multipath { destination, gone },
        false => Event::Object(Announced { device, object, gone }),
    })
}

/// Reads a notification; `None` for those of other tables and kinds.
pub(crate) fn notification(message: Message<'_>) -> Option<Notification> {
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
            route(record::route(payload, request::MAIN)?, message.kind == libc::RTM_DELROUTE)?
        }
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            Event::Object(overlay::entry(payload)?.announced(message.kind == libc::RTM_DELNEIGH)?)
        }
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Event::Rule { gone: message.kind == libc::RTM_DELRULE },
        _ => return None,
    };
    Some(Notification { event, sender: message.port })
}
