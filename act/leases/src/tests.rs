use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use selvedge_ipam::{Pool, Range, RangeSpec, Request};
use selvedge_model::{AttachmentKey, IfName, NetworkName, Owner};

use super::*;

/// A run directory that goes with the test.
struct RunDir(PathBuf);

impl RunDir {
    fn new(name: &str) -> Self {
        // In memory, as in service: elsewhere every line waits for the disk.
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = base.join(format!("selvedge-leases-{}-{name}", std::process::id()));
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
    assert_eq!((locked.recovery(), locked.table()), (None, &table));
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
            assert_eq!(locked.table().lease(&key(n)).unwrap().addresses[0].addr(), *address, "byte {at}");
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
    assert_eq!(locked.table().leases().len(), 1);
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
    assert!(locked.table().leases().is_empty());
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
