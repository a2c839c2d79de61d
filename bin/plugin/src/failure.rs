//! Errors of the crates below as errors of the protocol: which code each has.

use std::any::Any;
use std::net::IpAddr;

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

/// An address is somebody's already.
pub(crate) fn of_taken(address: IpAddr, holder: &str) -> CniError {
    CniError::new(code::NO_ADDRESS, format!("{address} can't be had: {holder}"))
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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn io_5_a_panic_is_a_defect_with_code_999_and_its_text_in_one_line() {
        let fixed = catch_unwind(|| panic!("no such thing")).unwrap_err();
        let composed = catch_unwind(|| panic!("{}\nthings", 7)).unwrap_err();
        let other = catch_unwind(|| std::panic::panic_any(7)).unwrap_err();
        for (panic, text) in
            [(fixed, "no such thing"), (composed, "7 things"), (other, "a panic without a text")]
        {
            let error = of_panic(panic.as_ref());
            assert_eq!(error.code(), 999);
            assert_eq!(error.message(), format!("defect in selvedge, please report it: {text}"));
        }
    }
}
