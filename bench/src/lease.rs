//! Leases of containers that are not there, written the way each side writes its own.

use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use selvedge_leases::{Oracle, OracleError, Store};
use selvedge_model::{AttachmentKey, IfName, Owner, host_veth_name};

use crate::call::container_id;
use crate::error::BenchError;

/// As host-local writes them: a file for each address, with the container and the interface in it.
pub(crate) fn by_files(folder: &Path, mut leases: Range<u16>) -> Result<(), BenchError> {
    leases.try_for_each(|number| {
        let path = folder.join(address(number).to_string());
        let text = format!("{}\r\neth0", container(number));
        fs::write(&path, text).map_err(|source| BenchError::file("write", &path, source))
    })
}

/// As the plugin writes them: records in a network's journal below a run directory. To be called in the node's
/// namespace, whose identity is in the journal.
pub(crate) fn in_journal(run_dir: &Path, network: &str, leases: Range<u16>) -> Result<(), BenchError> {
    let fill = || -> Result<(), Box<dyn Error + Send + Sync>> {
        let network = network.parse()?;
        let mut journal = Store::new(run_dir, &network).lock(&mut NoLinks)?;
        for number in leases.clone() {
            let key = AttachmentKey { container: container(number).parse()?, ifname: "eth0".parse()? };
            let address = format!("{}/16", address(number)).parse()?;
            journal.record(&key, vec![address], &host_veth_name(&network, &key, 0))?;
        }
        Ok(())
    };
    fill().map_err(|source| BenchError::Leases { source })
}

/// Nothing of these leases is in the kernel.
struct NoLinks;

impl Oracle for NoLinks {
    fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
        Ok(Vec::new())
    }
}

/// None of the pods'.
fn container(number: u16) -> String {
    container_id(1_000_000 + u64::from(number))
}

/// In the middle of the network, away from the addresses that the pods get.
fn address(number: u16) -> Ipv4Addr {
    let [high, low] = (0x1000 + number).to_be_bytes();
    Ipv4Addr::new(10, 244, high, low)
}
