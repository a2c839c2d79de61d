//! Times the store as a short-lived process meets it: `cargo run --release -p selvedge-leases --example timing [DIR]`.
#![expect(clippy::print_stdout, reason = "it reports to a person")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selvedge_ipam::journal::Replay;
use selvedge_ipam::{Occupancy, Pool, Range, RangeSpec, Request, journal};
use selvedge_leases::{Oracle, OracleError, Store};
use selvedge_model::{AttachmentKey, IfName, Owner, host_veth_name};

struct NoLinks;

impl Oracle for NoLinks {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        Ok(Vec::new())
    }
}

fn key(n: u64) -> Result<AttachmentKey, Box<dyn Error>> {
    // An odd factor scatters the ids, as a runtime's random ones are.
    let id = format!("{:016x}{n:048x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Ok(AttachmentKey { container: id.parse()?, ifname: "eth0".parse()? })
}

fn pool(subnets: &[&str]) -> Result<Pool, Box<dyn Error>> {
    let mut sets = Vec::new();
    for subnet in subnets {
        let spec = RangeSpec { subnet: subnet.parse()?, start: None, end: None, gateway: None };
        sets.push(vec![Range::new(spec)?]);
    }
    Ok(Pool::new(sets)?)
}

/// The median of many times.
fn time(work: &mut dyn FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn measure(dir: &Path, name: &str, subnets: &[&str], leases: u64) -> Result<(), Box<dyn Error>> {
    let network = name.parse()?;
    let store = Store::new(dir, &network);
    let pool = pool(subnets)?;
    let mut locked = store.lock(&mut NoLinks)?;
    for n in 0..leases {
        locked.reserve(
            &pool,
            Request { key: &key(n)?, addresses: &[] },
            &host_veth_name(&network, &key(n)?, 0),
        )?;
    }
    drop(locked);
    let bytes = std::fs::read(dir.join("ipam").join(name).join("journal"))?;
    let replay = time(&mut || {
        drop(std::hint::black_box(journal::replay(&bytes)?));
        Ok(())
    })?;
    let taken = time(&mut || {
        drop(std::hint::black_box(Replay::<Occupancy>::of(&bytes)?));
        Ok(())
    })?;
    let find = time(&mut || {
        store.lease(&key(leases / 2)?)?;
        Ok(())
    })?;
    let mut n = leases;
    let reserve = time(&mut || {
        n += 1;
        store.lock(&mut NoLinks)?.reserve(
            &pool,
            Request { key: &key(n)?, addresses: &[] },
            &"slvx".parse()?,
        )?;
        Ok(())
    })?;
    let start = Instant::now();
    let mut worst = Duration::ZERO;
    let mut locked = store.lock(&mut NoLinks)?;
    for n in 0..leases {
        let one = Instant::now();
        locked.release(&key(n)?)?;
        worst = worst.max(one.elapsed());
    }
    let drain = start.elapsed();
    println!(
        "{name}: {leases} leases, {} bytes: replay {replay:.0?}, of what is taken {taken:.0?}, find {find:.0?}, lock + reserve {reserve:.0?}, drain {drain:.0?} in all, worst release {worst:.0?}",
        bytes.len()
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let dir = dir.join(format!("selvedge-timing-{}", std::process::id()));
    for (name, leases) in [("empty", 0), ("few", 100), ("many", 4_000), ("most", 16_000)] {
        measure(&dir, name, &["10.0.0.0/8"], leases)?;
        measure(&dir, &format!("{name}-dual"), &["10.0.0.0/8", "fd00::/64"], leases)?;
    }
    // All but 100 of the range are leased, and the search starts at its beginning.
    let wide = pool(&["10.128.0.0/18"])?;
    let mut table = selvedge_ipam::LeaseTable::default();
    for n in 0..16_200 {
        let addresses = table
            .choose(&wide, Request { key: &key(n)?, addresses: &[] }, 0)?
            .iter()
            .map(|leased| leased.net)
            .collect();
        table.insert(key(n)?, selvedge_ipam::Lease { addresses, veth: "slvx".parse()?, since_ms: 0 })?;
    }
    table.set_cursor("10.128.0.2/18".parse()?);
    let start = Instant::now();
    table.choose(&wide, Request { key: &key(99_999)?, addresses: &[] }, 0)?;
    println!("choose past a run of 16200 leases: {:.0?}", start.elapsed());
    Ok(std::fs::remove_dir_all(&dir)?)
}
