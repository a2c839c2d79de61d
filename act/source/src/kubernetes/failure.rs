//! What the API refuses, and in which words.

use kube::core::Status;
use kube::runtime::watcher;
use selvedge_model::chain;

/// True if a server, however new it is, refuses to list or watch in the way that it was asked to: one with an old etcd
/// says 500 (`RequestWatchProgress is disabled`), one that has the feature switched off 422.
pub(super) fn is_refusal(error: &watcher::Error) -> bool {
    matches!(code(error), Some(400 | 422 | 500))
}

/// The status with which the server answered.
pub(super) fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// What went wrong, once: the client's own texts repeat each other, and show the server's answer as a structure.
pub(super) fn why(error: &watcher::Error) -> String {
    let told = |status: &Status| format!("{} ({} {})", status.message, status.code, status.reason);
    let (what, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list", cause),
        watcher::Error::WatchStartFailed(cause) => ("start to watch", cause),
        watcher::Error::WatchFailed(cause) => ("watch", cause),
        watcher::Error::WatchError(status) => return format!("watch: {}", told(status)),
        watcher::Error::NoResourceVersion => return error.to_string(),
    };
    match cause {
        kube::Error::Api(status) => format!("{what}: {}", told(status)),
        other => format!("{what}: {}", chain(other)),
    }
}

#[cfg(test)]
mod tests;
