//! Which files of a directory are being written.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{Event, ReadFlags};

/// How long a file that came is waited for to be written: a link that came is not.
const BEGIN: Duration = Duration::from_millis(20);

/// How long a file that was being written is waited for to be closed.
const CLOSE: Duration = Duration::from_secs(1);

/// The files that are being written, and until when they are waited for.
#[derive(Debug, Default)]
pub(super) struct Writing(BTreeMap<OsString, Instant>);

impl Writing {
    /// Takes an event of that moment; true if there is something to look at.
    pub(super) fn hear(&mut self, event: &Event<'_>, now: Instant) -> bool {
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        self.take(event.events(), name, now)
    }

    fn take(&mut self, flags: ReadFlags, name: Option<&OsStr>, now: Instant) -> bool {
        let wait = if flags.contains(ReadFlags::CREATE) { Some(BEGIN) } else { None };
        let wait = if flags.contains(ReadFlags::MODIFY) { Some(CLOSE) } else { wait };
        match (name, wait) {
            (Some(name), Some(wait)) if !flags.contains(ReadFlags::ISDIR) => {
                self.0.insert(name.to_owned(), now + wait);
                return false;
            }
            // Other rights to a file that is being written are no end of that.
            (Some(name), None) if !flags.contains(ReadFlags::ATTRIB) => drop(self.0.remove(name)),
            (Some(_), _) => {}
            // The directory itself went, or events were lost.
            (None, _) => self.0.clear(),
        }
        true
    }

    /// True while a file is waited for.
    pub(super) fn contains(&self, name: &OsStr) -> bool {
        self.0.contains_key(name)
    }

    /// When the first of them isn't waited for any more.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Waits no longer for those whose time has come; true if there are any.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        let waited_for = self.0.len();
        self.0.retain(|_, until| *until > now);
        self.0.len() < waited_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_waited_for_from_when_it_comes_until_it_is_closed() {
        let (mut writing, now) = (Writing::default(), Instant::now());
        let a = OsStr::new("a.yaml");
        let mut take = |flags| {
            let look = writing.take(flags, Some(a), now);
            (look, writing.contains(a))
        };
        assert_eq!(take(ReadFlags::CREATE), (false, true));
        assert_eq!(take(ReadFlags::MODIFY), (false, true));
        assert_eq!(take(ReadFlags::ATTRIB), (true, true));
        assert_eq!(take(ReadFlags::CLOSE_WRITE), (true, false));
        assert_eq!(take(ReadFlags::MODIFY), (false, true));
        assert_eq!(take(ReadFlags::DELETE), (true, false));
        assert_eq!(take(ReadFlags::MOVED_TO), (true, false));
    }

    #[test]
    fn a_link_that_came_and_a_file_that_is_never_closed_are_waited_for_no_longer_than_need_be() {
        let (mut writing, now) = (Writing::default(), Instant::now());
        let (a, b) = (OsStr::new("a.yaml"), OsStr::new("b.yaml"));
        writing.take(ReadFlags::CREATE, Some(a), now);
        writing.take(ReadFlags::MODIFY, Some(b), now);
        assert_eq!(writing.until(), Some(now + BEGIN));
        assert!(!writing.give_up(now) && writing.give_up(now + BEGIN));
        assert_eq!((writing.contains(a), writing.contains(b)), (false, true));
        assert_eq!(writing.until(), Some(now + CLOSE));
        assert!(writing.take(ReadFlags::QUEUE_OVERFLOW, None, now), "what was lost may have been its end");
        assert_eq!(writing.until(), None);
    }
}
