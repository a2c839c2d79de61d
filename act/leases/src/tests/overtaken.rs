//! What is read without the lock, while others write.

use std::fs;
use std::os::unix::fs::FileExt;

use selvedge_ipam::{Lease, Operation};

use super::{Kernel, RunDir, attach, key, veth};
use crate::Locked;
use crate::reading::{Purpose, Reading};

/// Reads without the lock, lets something change, and then has so many leases if what was read could be gone on with.
fn known_after(name: &str, change: impl FnOnce(&RunDir, &mut Locked), expected: Option<usize>) {
    let dir = RunDir::new(name);
    let mut kernel = Kernel::default();
    attach(&dir.store(), &mut kernel, 1);
    attach(&dir.store(), &mut kernel, 2);
    let ahead = Reading::begin(&dir.journal(), Purpose::Appending).unwrap().unwrap();
    let mut locked = dir.store().lock(&mut kernel).unwrap();
    change(&dir, &mut locked);
    let caught_up = ahead.catch_up(&dir.journal()).unwrap();
    if let Some(reading) = &caught_up {
        assert!(reading.is_clean());
        assert_eq!(reading.leases().unwrap(), locked.table().unwrap());
        assert_eq!(reading.replay.table.len(), locked.table().unwrap().leases().len());
    }
    assert_eq!(caught_up.map(|reading| reading.replay.table.len()), expected);
}

#[test]
fn what_was_read_without_the_lock_is_brought_up_to_date_with_it() {
    known_after("unchanged", |_, _| {}, Some(2));
    let grow = |_: &RunDir, locked: &mut Locked| {
        locked.release(&key(2)).unwrap();
        for n in 3..900 {
            locked
                .record(&key(n), vec![format!("10.2.{}.{}/20", n / 250, n % 250).parse().unwrap()], &veth(n))
                .unwrap();
        }
    };
    known_after("grown", grow, Some(898));
}

#[test]
fn what_was_read_without_the_lock_and_is_no_more_is_read_again() {
    let replaced = |dir: &RunDir, _: &mut Locked| {
        fs::copy(dir.journal(), dir.0.join("copy")).unwrap();
        fs::rename(dir.0.join("copy"), dir.journal()).unwrap();
    };
    known_after("replaced", replaced, None);
    known_after("removed", |dir, _| fs::remove_file(dir.journal()).unwrap(), None);
    // A line that couldn't be synced was cut off, and another of the same length took its place.
    let other = |dir: &RunDir, _: &mut Locked| {
        let text = fs::read_to_string(dir.journal()).unwrap();
        let last = text.trim_end().rfind('\n').unwrap() + 1;
        let line = |since_ms| {
            let mut replay = selvedge_ipam::journal::replay(&text.as_bytes()[..last]).unwrap();
            let lease = Lease { addresses: vec!["10.1.0.9/20".parse().unwrap()], veth: veth(3), since_ms };
            replay.writer.line(&Operation::Allocate(key(3), lease))
        };
        let missing = text[last..].len() - line(0).len();
        let line = line(10_u64.pow(u32::try_from(missing).unwrap()));
        assert_eq!(line.len(), text[last..].len());
        fs::OpenOptions::new()
            .write(true)
            .open(dir.journal())
            .unwrap()
            .write_all_at(line.as_bytes(), last as u64)
            .unwrap();
    };
    known_after("other", other, None);
}
