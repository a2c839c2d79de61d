use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ipnet::IpNet;
use selvedge_ipam::{Pool, Range, RangeSpec, Request};
use selvedge_model::{AttachmentKey, IfName, NetworkName, Owner};

use super::*;

mod overtaken;

/// A run directory that goes with the test.
struct RunDir(PathBuf);

impl RunDir {
    /// On tmpfs, where the store is meant to be, if there is one.
    fn new(name: &str) -> Self {
        let memory = PathBuf::from("/dev/shm");
        Self::below(if memory.is_dir() { memory } else { std::env::temp_dir() }, name)
    }

    fn below(directory: PathBuf, name: &str) -> Self {
        let path = directory.join(format!("selvedge-leases-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Store {
        Store::new(&self.0, &network())
    }

    fn journal(&self) -> PathBuf {
        self.0.join("ipam/mynet/journal")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The kernel's host ends, as the test wants them.
#[derive(Default)]
struct Kernel(Vec<(IfName, Owner)>);

impl Oracle for Kernel {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        Ok(self.0.clone())
    }
}

fn network() -> NetworkName {
    "mynet".parse().unwrap()
}

fn key(n: usize) -> AttachmentKey {
    AttachmentKey { container: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

fn veth(n: usize) -> IfName {
    format!("slv{n}").parse().unwrap()
}

fn pool(subnet: &str) -> Pool {
    let spec = RangeSpec { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None };
    Pool::new(vec![vec![Range::new(spec).unwrap()]]).unwrap()
}

fn attach(store: &Store, kernel: &mut Kernel, n: usize) -> IpAddr {
    let leased = store
        .lock(kernel)
        .unwrap()
        .reserve(&pool("10.1.0.0/20"), Request { key: &key(n), addresses: &[] }, &veth(n))
        .unwrap();
    let address = leased[0].net;
    kernel.0.push((veth(n), Owner::new(network(), &key(n), vec![IpNet::from(address.addr())])));
    address.addr()
}

#[test]
fn leases_are_there_for_the_next_process() {
    let dir = RunDir::new("next");
    let mut kernel = Kernel::default();
    let address = attach(&dir.store(), &mut kernel, 1);
    let table = dir.store().read().unwrap();
    assert_eq!(table.lease(&key(1)).unwrap().addresses[0].addr(), address);
    let locked = dir.store().lock(&mut kernel).unwrap();
    assert_eq!((locked.recovery(), &locked.table().unwrap()), (None, &table));
}

#[test]
fn leases_on_a_disk_survive_the_process_too() {
    let dir = RunDir::below(std::env::temp_dir(), "disk");
    let mut kernel = Kernel::default();
    let addresses: Vec<IpAddr> = (0..3).map(|n| attach(&dir.store(), &mut kernel, n)).collect();
    dir.store().lock(&mut kernel).unwrap().release(&key(0)).unwrap();
    let table = dir.store().read().unwrap();
    assert_eq!(table.lease(&key(2)).unwrap().addresses[0].addr(), addresses[2]);
    assert!(table.quarantine().contains_key(&addresses[0]));
}

#[test]
fn two_hundred_at_once_get_two_hundred_addresses() {
    let dir = RunDir::new("many");
    let store = dir.store();
    let addresses: BTreeSet<IpAddr> = std::thread::scope(|scope| {
        let one = |n| {
            let store = &store;
            scope.spawn(move || {
                let mut locked = store.lock(&mut Kernel::default()).unwrap();
                locked
                    .reserve(&pool("10.1.0.0/20"), Request { key: &key(n), addresses: &[] }, &veth(n))
                    .unwrap()[0]
                    .net
                    .addr()
            })
        };
        let threads: Vec<_> = (0..200).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 200);
    assert_eq!(store.read().unwrap().leases().len(), 200);
}

#[test]
fn a_deleted_store_gives_no_living_pods_address_away() {
    let dir = RunDir::new("deleted");
    let mut kernel = Kernel::default();
    let taken: BTreeSet<IpAddr> = (0..50).map(|n| attach(&dir.store(), &mut kernel, n)).collect();
    fs::remove_dir_all(dir.0.join("ipam")).unwrap();
    for n in 100..150 {
        let mut locked = dir.store().lock(&mut kernel).unwrap();
        let leased =
            locked.reserve(&pool("10.1.0.0/20"), Request { key: &key(n), addresses: &[] }, &veth(n)).unwrap();
        assert!(!taken.contains(&leased[0].net.addr()), "{} has two owners", leased[0].net);
    }
    assert_eq!(dir.store().read().unwrap().leases().len(), 100);
}

#[test]
fn a_journal_damaged_anywhere_is_kept_aside_and_rebuilt_from_the_kernel() {
    let dir = RunDir::new("damaged");
    let mut kernel = Kernel::default();
    let addresses: Vec<IpAddr> = (0..5).map(|n| attach(&dir.store(), &mut kernel, n)).collect();
    let whole = fs::read(dir.journal()).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(dir.journal(), bytes).unwrap();
        let locked = dir.store().lock(&mut kernel).unwrap();
        assert!(locked.recovery().is_some(), "byte {at} went unnoticed");
        for (n, address) in addresses.iter().enumerate() {
            assert_eq!(locked.lease(&key(n)).unwrap().unwrap().addresses[0].addr(), *address, "byte {at}");
        }
    }
    let kept = fs::read_dir(dir.0.join("ipam/mynet")).unwrap().flatten();
    assert!(kept.filter(|e| e.file_name().to_string_lossy().starts_with("journal.bad.")).count() > 0);
}

#[test]
fn a_half_written_line_is_cut_off() {
    let dir = RunDir::new("torn");
    let mut kernel = Kernel::default();
    attach(&dir.store(), &mut kernel, 1);
    let mut bytes = fs::read(dir.journal()).unwrap();
    bytes.extend_from_slice(b"2 A c2 eth0 10.1.0");
    fs::write(dir.journal(), bytes).unwrap();
    let locked = dir.store().lock(&mut kernel).unwrap();
    assert_eq!(locked.recovery(), Some(&Recovery::Torn));
    assert_eq!(locked.table().unwrap().leases().len(), 1);
}

#[test]
fn a_reboot_voids_every_lease_and_keeps_the_cursor() {
    let dir = RunDir::new("reboot");
    attach(&dir.store(), &mut Kernel::default(), 1);
    let text = fs::read_to_string(dir.journal()).unwrap();
    let replay = selvedge_ipam::journal::replay(text.as_bytes()).unwrap();
    let header = selvedge_ipam::Header { boot_id: "another".to_owned(), ..replay.header };
    fs::write(dir.journal(), selvedge_ipam::journal::write(&header, &replay.table).1).unwrap();
    let mut locked = dir.store().lock(&mut Kernel::default()).unwrap();
    assert_eq!(locked.recovery(), Some(&Recovery::OtherBoot));
    assert!(locked.table().unwrap().leases().is_empty());
    let leased =
        locked.reserve(&pool("10.1.0.0/20"), Request { key: &key(2), addresses: &[] }, &veth(2)).unwrap();
    assert_eq!(leased[0].net.to_string(), "10.1.0.3/20");
}

#[test]
fn ten_thousand_leases_on_a_small_subnet_leave_a_short_journal() {
    let dir = RunDir::new("crashloop");
    let mut kernel = Kernel::default();
    let mut locked = dir.store().lock(&mut kernel).unwrap();
    for _ in 0..10_000 {
        locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(1), addresses: &[] }, &veth(1)).unwrap();
        locked.release(&key(1)).unwrap();
    }
    drop(locked);
    assert!(dir.store().read().unwrap().leases().is_empty());
    assert!(fs::metadata(dir.journal()).unwrap().len() < 200_000);
    assert_eq!(dir.store().lock(&mut kernel).unwrap().recovery(), None);
}

#[test]
fn a_store_that_is_no_directory_is_named() {
    let dir = RunDir::new("nodir");
    fs::write(dir.0.join("ipam"), "").unwrap();
    let error = dir.store().lock(&mut Kernel::default()).unwrap_err();
    assert!(error.to_string().starts_with("make "), "{error}");
}

#[test]
fn a_released_attachment_leaves_no_lock_file_and_a_held_one_is_waited_for() {
    let dir = RunDir::new("att");
    let store = dir.store();
    let guard = store.lock_attachment(&key(1)).unwrap();
    assert!(store.try_lock_attachment(&key(1)).unwrap().is_none());
    assert!(store.try_lock_attachment(&key(2)).unwrap().is_some());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock_attachment(&key(1)).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(guard);
        drop(waiting.join().unwrap());
    });
    assert_eq!(fs::read_dir(dir.0.join("ipam/mynet/att")).unwrap().count(), 0);
}

#[test]
fn an_address_chosen_elsewhere_is_recorded_once() {
    let dir = RunDir::new("record");
    let mut locked = dir.store().lock(&mut Kernel::default()).unwrap();
    locked.record(&key(1), vec!["10.7.0.9/16".parse().unwrap()], &veth(1)).unwrap();
    let again = locked.record(&key(2), vec!["10.7.0.9/16".parse().unwrap()], &veth(2)).unwrap_err();
    assert_eq!(again.to_string(), "10.7.0.9 belongs to c1/eth0");
    assert!(locked.release(&key(2)).unwrap().is_none());
}

#[test]
fn an_attachment_that_came_back_keeps_its_living_address_when_its_last_lines_are_lost() {
    let dir = RunDir::new("back");
    let mut kernel = Kernel::default();
    let mut locked = dir.store().lock(&mut kernel).unwrap();
    for n in [1, 9] {
        locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(n), addresses: &[] }, &veth(n)).unwrap();
    }
    locked.release(&key(1)).unwrap();
    let again: IpAddr = "10.1.0.5".parse().unwrap();
    locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(1), addresses: &[again] }, &veth(1)).unwrap();
    drop(locked);
    kernel.0.push((veth(1), Owner::new(network(), &key(1), vec![again.into()])));
    let damaged = fs::read_to_string(dir.journal()).unwrap().replacen("2 A c9", "2 A c8", 1);
    fs::write(dir.journal(), damaged).unwrap();
    let mut locked = dir.store().lock(&mut kernel).unwrap();
    let twice = locked
        .reserve(&pool("10.1.0.0/29"), Request { key: &key(2), addresses: &[again] }, &veth(2))
        .unwrap_err();
    assert_eq!(twice.to_string(), "10.1.0.5 belongs to c1/eth0");
}

#[test]
fn a_lock_in_a_store_that_was_removed_excludes_nobody_and_is_taken_again() {
    let dir = RunDir::new("removed");
    let store = dir.store();
    let held = store.lock(&mut Kernel::default()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock(&mut Kernel::default()).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::remove_dir_all(dir.0.join("ipam")).unwrap();
        drop(held);
        let waited = waiting.join().unwrap();
        let lock = fs::File::open(dir.0.join("ipam/mynet/lock")).unwrap();
        assert!(!file::lock(&lock, &Wait::most(std::time::Duration::ZERO)).unwrap(), "two hold the lock");
        drop(waited);
    });
}

#[test]
fn a_release_that_is_written_down_succeeds_though_the_journal_cannot_be_shortened() {
    let dir = RunDir::new("long");
    let mut locked = dir.store().lock(&mut Kernel::default()).unwrap();
    fs::create_dir_all(dir.0.join("ipam/mynet/journal.new/in-the-way")).unwrap();
    for _ in 0..1_000 {
        locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(1), addresses: &[] }, &veth(1)).unwrap();
        assert!(locked.release(&key(1)).unwrap().is_some());
    }
    let table = locked.table().unwrap();
    drop(locked);
    assert_eq!(dir.store().read().unwrap(), table);
}

#[test]
fn what_is_written_after_a_compaction_is_in_the_journal() {
    let dir = RunDir::new("compacted");
    let mut locked = dir.store().lock(&mut Kernel::default()).unwrap();
    let inode = || fs::metadata(dir.journal()).unwrap().ino();
    let before = inode();
    while inode() == before {
        locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(1), addresses: &[] }, &veth(1)).unwrap();
        locked.release(&key(1)).unwrap();
    }
    locked.reserve(&pool("10.1.0.0/29"), Request { key: &key(2), addresses: &[] }, &veth(2)).unwrap();
    drop(locked);
    assert!(dir.store().read().unwrap().lease(&key(2)).is_some());
}

#[test]
fn processes_at_once_get_addresses_of_their_own() {
    const CHILD: &str = "SELVEDGE_LEASES_CHILD";
    if let Ok(child) = std::env::var(CHILD) {
        let (path, number) = child.rsplit_once(':').unwrap();
        let store = Store::new(path.as_ref(), &network());
        for n in 0..10 {
            let n = number.parse::<usize>().unwrap() * 10 + n;
            let mut locked = store.lock(&mut Kernel::default()).unwrap();
            locked.reserve(&pool("10.1.0.0/20"), Request { key: &key(n), addresses: &[] }, &veth(n)).unwrap();
        }
        return;
    }
    let dir = RunDir::new("processes");
    let start = |number: usize| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tests::processes_at_once_get_addresses_of_their_own"]);
        child.env(CHILD, format!("{}:{number}", dir.0.display())).stdout(std::process::Stdio::null());
        child.spawn().unwrap()
    };
    let children: Vec<_> = (0..20).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    // The table would not have taken an address twice: that all are there is what proves it.
    assert_eq!(dir.store().read().unwrap().leases().len(), 200);
}

#[test]
fn a_full_disk_fails_the_reservation_and_loses_nothing() {
    const INSIDE: &str = "SELVEDGE_LEASES_TMPFS";
    let name = "tests::a_full_disk_fails_the_reservation_and_loses_nothing";
    if let Ok(path) = std::env::var(INSIDE) {
        return fill(&PathBuf::from(path));
    }
    let dir = RunDir::new("full");
    let (exe, path) = (std::env::current_exe().unwrap(), dir.0.display());
    let script = format!("mount -t tmpfs -o size=64k tmpfs {path} && exec {} --exact {name}", exe.display());
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env(INSIDE, &dir.0);
    match unshare.output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        other => println!("skipped: no tmpfs in a mount namespace of its own: {other:?}"),
    }
}

/// Leases until the disk is full, then frees everything on the full disk, and goes on.
fn fill(run_dir: &std::path::Path) {
    let store = Store::new(run_dir, &network());
    let reserve = |n| {
        let mut locked = store.lock(&mut Kernel::default()).unwrap();
        locked.reserve(&pool("10.1.0.0/20"), Request { key: &key(n), addresses: &[] }, &veth(n)).map(drop)
    };
    let others = run_dir.join("others");
    fs::write(&others, [0; 32 << 10]).unwrap();
    let mut leased = 0;
    let error = loop {
        match reserve(leased) {
            Ok(()) => leased += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with("append to "), "{error}");
    assert_eq!(store.read().unwrap().leases().len(), leased);
    let again = store.lock(&mut Kernel::default()).unwrap();
    assert_eq!((again.recovery(), again.table().unwrap().leases().len()), (None, leased));
    drop(again);
    reserve(leased).unwrap_err();
    assert_eq!(store.lock(&mut Kernel::default()).unwrap().recovery(), None);
    // Somebody else takes every byte that is left.
    let mut rest = fs::OpenOptions::new().append(true).open(&others).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}
    for n in 0..leased {
        let mut locked = store.lock(&mut Kernel::default()).unwrap();
        assert!(locked.release(&key(n)).unwrap().is_some(), "on a full disk {n} can't be freed");
    }
    assert!(store.read().unwrap().leases().is_empty());
    drop(rest);
    fs::remove_file(others).unwrap();
    for n in 0..leased {
        reserve(n).unwrap();
    }
}
