//! What can go wrong, for the person who reads it at night.

use std::io;

use selvedge_ruleset::TableId;

/// An operation on nftables or connection tracking failed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no netfilter socket to be had.
    #[error("cannot open a netfilter socket: is CONFIG_NETFILTER_NETLINK in this kernel?")]
    Open {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel would not list something.
    #[error(
        "cannot list {what}: are nf_tables in this kernel, and CAP_NET_ADMIN among this process's capabilities?"
    )]
    List {
        /// What was to be listed.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others changed the rules each time that they were listed or a change to them was decided on.
    #[error(
        "the nftables rules changed {attempts} times while they were looked at: who writes them so often?"
    )]
    Restless {
        /// How often it was tried.
        attempts: u32,
    },
    /// The batch could not be sent.
    #[error(
        "cannot send a transaction of {bytes} bytes: without CAP_NET_ADMIN, net.core.wmem_max limits its size"
    )]
    Send {
        /// The batch's length.
        bytes: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a command; nothing has been changed.
    #[error("the kernel refused `{command}`; nothing was changed")]
    Refused {
        /// The command in nft's syntax.
        command: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the transaction as a whole; nothing has been changed.
    #[error("the kernel refused the transaction; nothing was changed")]
    RefusedAll {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process owns the table and lives; nothing has been changed.
    #[error(
        "table {table} is owned by the netlink socket with port {portid} (mostly the process id of its owner): \
         stop that process first"
    )]
    Owned {
        /// The table.
        table: TableId,
        /// The owner's netlink port.
        portid: u32,
    },
    /// Notifications can't be read any more.
    #[error("cannot read nftables notifications")]
    Watch {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A group of the netfilter log can't be listened to.
    #[error(
        "cannot listen to group {group} of the netfilter log: is CONFIG_NETFILTER_NETLINK_LOG in this kernel, and does \
         another program listen to it (/proc/net/netfilter/nfnetlink_log)?"
    )]
    PacketLog {
        /// The group.
        group: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Packets are told of no more.
    #[error("cannot read what the netfilter log tells")]
    Packets {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Tracked connections could not be deleted.
    #[error("cannot delete the tracked connections of {address}")]
    Conntrack {
        /// The address.
        address: std::net::IpAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What is tracked could not be listed.
    #[error("cannot list the tracked connections")]
    Flows {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Tracked connections could not be deleted.
    #[error("cannot delete the tracked connections that are no longer allowed")]
    Forget {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Tracked connections to a published port could not be deleted.
    #[error("cannot remove the tracked connections to UDP port {port}")]
    ConntrackPort {
        /// The port.
        port: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
}
