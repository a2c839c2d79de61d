//! What can go wrong.

use selvedge_datapath::published::PublishedPort;
use selvedge_leases::LeaseError;
use selvedge_netlink::NetlinkError;
use selvedge_nft::NftError;

/// Ports could not be published, taken away or looked at.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Somebody else has the port.
    #[error("{port} is published already, for {}", port.owner)]
    Taken {
        /// The port as the other one has it.
        port: Box<PublishedPort>,
    },
    /// nftables or connection tracking.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Links and sysctls.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The node's lock.
    #[error(transparent)]
    Lock(#[from] LeaseError),
}
