//! Namespaces around the whole lab, so that nothing of it is on the host and all of it goes when its process goes.
//!
//! The lab's first process lives in a PID namespace of its own (its death is everybody's), in a mount namespace of its
//! own with a fresh `/run`, and, where the caller is no administrator, in a user namespace in which it is one.

#![expect(unsafe_code, reason = "unshare has no safe wrapper")]

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The system allows no lab.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{advice}")]
pub(crate) struct ContainError {
    operation: &'static str,
    advice: String,
    source: io::Error,
}

/// What the system's settings say about user namespaces of ordinary users; `None` where it has no such setting.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    /// user.max_user_namespaces
    most: Option<u64>,
    /// kernel.unprivileged_userns_clone (Debian and its kin)
    cloning: Option<u64>,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu)
    apparmor: Option<u64>,
}

/// Moves the calling process into new user (if need be) and mount namespaces, and its future children into a new PID
/// namespace. The process must have one thread only.
///
/// # Errors
/// [`ContainError`], whose text says what an administrator can do.
pub(crate) fn unshare() -> Result<(), ContainError> {
    let (uid, gid) = (geteuid(), getegid());
    let around = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if uid.is_root() {
        match enter_new(around) {
            // An administrator without the capability, as in most containers, is an ordinary user.
            Err(Errno::PERM) => {}
            other => return other.map_err(|errno| refused("make mount and PID namespaces", errno)),
        }
    }
    let made = enter_new(around | UnshareFlags::NEWUSER);
    made.map_err(|errno| refused("make a user namespace with mount and PID namespaces", errno))?;
    let map = |file: &str, text: String| {
        let written = fs::write(file, text);
        written.map_err(|source| explained("map users into the user namespace", source))
    };
    map("/proc/self/setgroups", "deny".to_owned())?;
    map("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
    map("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))
}

/// Gives the mount namespace at hand a `/run` of its own and a `/proc` of the PID namespace at hand.
///
/// # Errors
/// [`ContainError`].
pub(crate) fn furnish() -> Result<(), ContainError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| refused("make the mounts private", errno))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("lab", "/run", "tmpfs", plain, c"mode=0755")
        .map_err(|errno| refused("mount a tmpfs at /run", errno))?;
    let proc = mount("proc", "/proc", "proc", plain | MountFlags::NOEXEC, None);
    match proc {
        // Where parts of /proc are hidden, as in containers, a new one is refused. The old one serves, only `ps` shows
        // too much.
        Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(errno) => Err(refused("mount /proc", errno)),
    }
}

fn enter_new(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors of other threads vanish); it is not asked for.
    unsafe { unshare_unsafe(flags) }
}

fn refused(operation: &'static str, errno: Errno) -> ContainError {
    explained(operation, errno.into())
}

fn explained(operation: &'static str, source: io::Error) -> ContainError {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
    let settings = Settings {
        most: setting("user/max_user_namespaces"),
        cloning: setting("kernel/unprivileged_userns_clone"),
        apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
    };
    ContainError { operation, advice: advice(settings), source }
}

/// What to do, as far as the settings show what is in the way.
fn advice(settings: Settings) -> String {
    let unlock = |setting: &str, value: u32| {
        format!(": {setting} forbids it; as root, type `sysctl -w {setting}={value}`, or run the lab as root")
    };
    if settings.most == Some(0) {
        unlock("user.max_user_namespaces", 10_000)
    } else if settings.cloning == Some(0) {
        unlock("kernel.unprivileged_userns_clone", 1)
    } else if settings.apparmor == Some(1) {
        unlock("kernel.apparmor_restrict_unprivileged_userns", 0)
    } else {
        " (the lab needs root, or user namespaces for ordinary users; in a container it needs --privileged)"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_forbids_a_user_namespace_is_named_with_the_command_that_allows_it() {
        let cases = [
            (Settings { most: Some(0), ..Settings::default() }, "sysctl -w user.max_user_namespaces=10000"),
            (
                Settings { cloning: Some(0), ..Settings::default() },
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                Settings { most: Some(9), cloning: Some(1), apparmor: Some(1) },
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (Settings::default(), "--privileged"),
        ];
        for (settings, command) in cases {
            assert!(advice(settings).contains(command), "{settings:?}");
        }
    }
}
