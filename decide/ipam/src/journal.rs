//! A lease table as text: a header line, then a line for each operation.
//!
//! ```text
//! selvedge-ipam 1 NETWORK BOOT_ID NETNS EPOCH CRC
//! SEQ OP CONTAINER IFNAME ADDRESSES VETH MILLISECONDS CRC
//! ```
//!
//! Fields are separated by one space, `-` stands for none, ADDRESSES has commas between addresses of all families.
//! SEQ counts from 1. CRC is CRC-32C in 8 hex digits over the line before it, continued from the previous line's, so
//! that no line can be taken out, put in or moved unnoticed. Operations: `A` a lease is made, `F` it is freed and its
//! addresses rest, `U` it is undone and they don't, `C` where the next search in a subnet starts, `Q` an address rests.
//! A line is shorter than 512 bytes as long as it has no more than six addresses.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use selvedge_model::{AttachmentKey, IfName, NetworkName};

use crate::table::{Lease, LeaseTable};

mod replay;

pub use replay::{Line, Replay, State, Tail, lease_in, replay};

/// The first words of the header: format and its version.
const MAGIC: &str = "selvedge-ipam 1";

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The network.
    pub network: NetworkName,
    /// The kernel's boot id: another one voids every lease.
    pub boot_id: String,
    /// The inode of the node's network namespace: another one does too.
    pub netns: u64,
    /// Counts the journals of this network.
    pub epoch: u64,
}

/// One line's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A lease is made.
    Allocate(AttachmentKey, Lease),
    /// A lease is freed at a moment, and its addresses rest.
    Free(AttachmentKey, u64),
    /// A lease that was never used is taken back.
    Undo(AttachmentKey),
    /// The next search in this network's subnet starts after its address.
    Cursor(IpNet),
    /// An address rests since a moment.
    Rest(IpAddr, u64),
}

/// Writes lines, each chained to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub(crate) seq: u64,
    pub(crate) crc: u32,
}

/// The text is no journal at all: its header is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header is missing or damaged")]
pub struct NoHeader;

impl Writer {
    /// Starts a journal; returns its header line too.
    pub fn start(header: &Header) -> (Self, String) {
        let Header { network, boot_id, netns, epoch } = header;
        let body = format!("{MAGIC} {network} {boot_id} {netns} {epoch} ");
        let crc = crc32c::crc32c(body.as_bytes());
        (Self { seq: 0, crc }, format!("{body}{crc:08x}\n"))
    }

    /// The next line.
    pub fn line(&mut self, operation: &Operation) -> String {
        self.seq += 1;
        let mut line = format!("{} {} ", self.seq, Fields(operation));
        self.crc = crc32c::crc32c_append(self.crc, line.as_bytes());
        // Writing to a String can't fail.
        writeln!(line, "{:08x}", self.crc).ok();
        line
    }
}

/// A whole journal that says what the table says: cursors, resting addresses, leases.
pub fn write(header: &Header, table: &LeaseTable) -> (Writer, String) {
    let (mut writer, mut text) = Writer::start(header);
    for (subnet, last) in table.cursors() {
        let net = IpNet::new(last, subnet.prefix_len()).unwrap_or(subnet);
        text.push_str(&writer.line(&Operation::Cursor(net)));
    }
    for (address, freed) in table.quarantine() {
        text.push_str(&writer.line(&Operation::Rest(address, freed)));
    }
    for (key, lease) in table.leases() {
        text.push_str(&writer.line(&Operation::Allocate(key.clone(), lease.clone())));
    }
    // Leases have moved the cursors; the last word is the table's.
    for (subnet, last) in table.cursors() {
        let net = IpNet::new(last, subnet.prefix_len()).unwrap_or(subnet);
        text.push_str(&writer.line(&Operation::Cursor(net)));
    }
    (writer, text)
}

/// The fields of an operation as the line has them.
struct Fields<'a>(&'a Operation);

impl std::fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Operation::Allocate(key, lease) => {
                write!(f, "A {} {} ", key.recorded_id(), key.ifname)?;
                for (i, net) in lease.addresses.iter().enumerate() {
                    write!(f, "{}{net}", if i == 0 { "" } else { "," })?;
                }
                if lease.addresses.is_empty() {
                    f.write_str("-")?;
                }
                write!(f, " {} {}", lease.veth, lease.since_ms)
            }
            Operation::Free(key, at) => write!(f, "F {} {} - - {at}", key.recorded_id(), key.ifname),
            Operation::Undo(key) => write!(f, "U {} {} - - 0", key.recorded_id(), key.ifname),
            Operation::Cursor(net) => write!(f, "C - - {net} - 0"),
            Operation::Rest(address, at) => write!(f, "Q - - {address} - {at}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(fields: &str) -> Result<Self, String> {
        parse_operation(fields).ok_or_else(|| format!("{fields:?} is no operation"))
    }
}

fn parse_operation(fields: &str) -> Option<Operation> {
    let mut words = fields.split(' ');
    let mut word = || words.next();
    let (op, container, ifname, addresses) = (word()?, word()?, word()?, word()?);
    let (veth, at) = (word()?, word()?.parse().ok()?);
    if word().is_some() {
        return None;
    }
    let key = || Some(AttachmentKey { container: container.parse().ok()?, ifname: ifname.parse().ok()? });
    Some(match op {
        "A" => {
            let addresses = parse_nets(addresses).collect::<Option<Vec<IpNet>>>()?;
            let veth: IfName = veth.parse().ok()?;
            Operation::Allocate(key()?, Lease { addresses, veth, since_ms: at })
        }
        "F" => Operation::Free(key()?, at),
        "U" => Operation::Undo(key()?),
        "C" => Operation::Cursor(addresses.parse().ok()?),
        "Q" => Operation::Rest(addresses.parse().ok()?, at),
        _ => return None,
    })
}

/// A lease's addresses; a host end whose owner record has none is adopted without any.
fn parse_nets(text: &str) -> impl Iterator<Item = Option<IpNet>> {
    let nets = text.as_bytes().split(|byte| *byte == b',').filter(|net| *net != b"-");
    nets.map(|net| parse_net(std::str::from_utf8(net).ok()?))
}

/// As `IpNet::from_str`, in a fraction of the time: this is most of what a replay does.
fn parse_net(text: &str) -> Option<IpNet> {
    let slash = text.bytes().rposition(|byte| byte == b'/')?;
    IpNet::new(text[..slash].parse().ok()?, text[slash + 1..].parse().ok()?).ok()
}

#[cfg(test)]
mod tests;
