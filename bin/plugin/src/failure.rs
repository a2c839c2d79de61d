//! Errors of the crates below as errors of the protocol: which code each has.

use std::any::Any;

use selvedge_cni::{CniError, code};
use selvedge_netlink::NetlinkError;
use selvedge_netns::NetnsError;

/// A defect of ours: a panic that was caught.
pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> CniError {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a text");
    CniError::new(code::INTERNAL, format!("defect in selvedge, please report it: {text}"))
}

/// The kernel refused a change or a question.
pub(crate) fn of_netlink(error: &NetlinkError) -> CniError {
    let kind = match error {
        NetlinkError::NameTaken { .. } => code::ALREADY_ATTACHED,
        _ => code::KERNEL,
    };
    CniError::from_chain(kind, error)
}

/// nftables refused a change or a question.
pub(crate) fn of_nft(error: &selvedge_nft::NftError) -> CniError {
    CniError::from_chain(code::KERNEL, error)
}

/// The legacy tables refused a change or a question.
pub(crate) fn of_xtables(error: &selvedge_xtables::XtablesError) -> CniError {
    CniError::from_chain(code::KERNEL, error)
}

/// The container's namespace can't be used.
pub(crate) fn of_netns(error: &NetnsError) -> CniError {
    let kind = if error.is_gone() { code::UNKNOWN_CONTAINER } else { code::NETNS };
    CniError::from_chain(kind, error)
}

/// Any failure whose code the caller knows.
pub(crate) fn of(kind: u32, error: &dyn std::error::Error) -> CniError {
    CniError::from_chain(kind, error)
}
