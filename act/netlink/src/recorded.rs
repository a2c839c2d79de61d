//! Datagrams that were recorded, read as if the kernel had just sent them.

use selvedge_wire::messages;

use crate::monitor::notification;
use crate::{record, request, shaping};

/// What each message of a recorded datagram of rtnetlink says to this crate: the kernel's verdict, a notification, or
/// `None` for what is passed over. For whoever looks into a recording; never fails, whatever the bytes are.
pub fn recorded(datagram: &[u8]) -> Vec<Option<String>> {
    let read = messages(datagram).map(|message| match message.verdict() {
        Some(verdict) => Some(format!("{verdict:?}")),
        None => {
            let (bucket, target) = (shaping::bucket(message.payload), shaping::redirection(message.payload));
            let Some(heard) = notification(message) else {
                return (bucket.is_some() || target.is_some()).then(|| format!("{bucket:?} {target:?}"));
            };
            let link = record::link(message.payload);
            let address = record::address(message.payload);
            let routes = record::route(message.payload, request::MAIN);
            let rule = record::rule(message.payload);
            Some(format!("{heard:?} {link:?} {address:?} {routes:?} {rule:?}"))
        }
    });
    read.collect()
}
