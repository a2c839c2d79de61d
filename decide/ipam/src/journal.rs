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
    seq: u64,
    crc: u32,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its header.
    pub header: Header,
    /// The table after its last whole line.
    pub table: LeaseTable,
    /// Writes what comes after that line.
    pub writer: Writer,
    /// The length of what was whole, in bytes.
    pub valid_len: usize,
    /// The number of whole lines after the header.
    pub records: usize,
    /// What comes after that.
    pub tail: Tail,
}

/// What stands after the last whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// One line that isn't whole: its writer was killed, or the disk was full.
    Torn,
    /// More than that: somebody changed the file.
    Corrupt {
        /// The first bad line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
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
        let net = IpNet::new(*last, subnet.prefix_len()).unwrap_or(*subnet);
        text.push_str(&writer.line(&Operation::Cursor(net)));
    }
    for (address, freed) in table.quarantine() {
        text.push_str(&writer.line(&Operation::Rest(*address, *freed)));
    }
    for (key, lease) in table.leases() {
        text.push_str(&writer.line(&Operation::Allocate(key.clone(), lease.clone())));
    }
    // Leases have moved the cursors; the last word is the table's.
    for (subnet, last) in table.cursors() {
        let net = IpNet::new(*last, subnet.prefix_len()).unwrap_or(*subnet);
        text.push_str(&writer.line(&Operation::Cursor(net)));
    }
    (writer, text)
}

/// Reads a journal up to its last whole line. A line that contradicts those before it counts as damaged.
pub fn replay(bytes: &[u8]) -> Result<Replay, NoHeader> {
    let mut lines = Lines { bytes, at: 0 };
    let first = lines.next().and_then(Result::ok).ok_or(NoHeader)?;
    let (body, crc) = split_crc(first).ok_or(NoHeader)?;
    if crc32c::crc32c(body.as_bytes()) != crc {
        return Err(NoHeader);
    }
    let header = parse_header(body).ok_or(NoHeader)?;
    let mut replay = Replay {
        header,
        table: LeaseTable::default(),
        writer: Writer { seq: 0, crc },
        valid_len: lines.at,
        records: 0,
        tail: Tail::Clean,
    };
    while let Some(line) = lines.next() {
        let applied = line.map_err(str::to_owned).and_then(|line| replay.apply(line));
        if let Err(why) = applied {
            let last = lines.at >= bytes.len();
            replay.tail = if last { Tail::Torn } else { Tail::Corrupt { line: replay.records + 2, why } };
            break;
        }
        replay.valid_len = lines.at;
        replay.records += 1;
    }
    Ok(replay)
}

impl Replay {
    fn apply(&mut self, line: &str) -> Result<(), String> {
        let (body, crc) = split_crc(line).ok_or("the line has no checksum")?;
        if crc32c::crc32c_append(self.writer.crc, body.as_bytes()) != crc {
            return Err("the checksum is wrong".to_owned());
        }
        let (seq, fields) = body.split_once(' ').ok_or("the line has no number")?;
        if seq.parse() != Ok(self.writer.seq + 1) {
            return Err(format!("the line's number is {seq}, not {}", self.writer.seq + 1));
        }
        let operation = fields.trim_end().parse::<Operation>()?;
        self.table.apply(operation).map_err(|why| why.to_string())?;
        self.writer = Writer { seq: self.writer.seq + 1, crc };
        Ok(())
    }
}

impl LeaseTable {
    /// Whether [`Self::apply`] would succeed.
    pub fn allows(&self, operation: &Operation) -> Result<(), crate::table::TableError> {
        match operation {
            Operation::Allocate(key, lease) => self.allows_lease(key, lease),
            Operation::Free(key, _) | Operation::Undo(key) if !self.leases().contains_key(key) => {
                Err(crate::table::TableError::NoLease { key: key.clone() })
            }
            Operation::Free(..) | Operation::Undo(_) | Operation::Cursor(_) | Operation::Rest(..) => Ok(()),
        }
    }

    /// Carries out an operation.
    pub fn apply(&mut self, operation: Operation) -> Result<(), crate::table::TableError> {
        match operation {
            Operation::Allocate(key, lease) => self.insert(key, lease),
            Operation::Free(key, at) => self.remove(&key, Some(at)).map(drop),
            Operation::Undo(key) => self.remove(&key, None).map(drop),
            Operation::Rest(address, at) => self.rest(address, at),
            Operation::Cursor(net) => {
                self.set_cursor(net);
                Ok(())
            }
        }
    }
}

/// Lines with their line break; what has none at the end is an error.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a str, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.at = self.bytes.len();
            return Some(Err("the line has no end"));
        };
        self.at += end + 1;
        Some(std::str::from_utf8(&rest[..end]).map_err(|_not_utf8| "the line is no text"))
    }
}

/// A line as what the checksum covers and the checksum.
fn split_crc(line: &str) -> Option<(&str, u32)> {
    let (body, hex) = line.split_at_checked(line.len().checked_sub(8)?)?;
    let strict = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (strict && body.ends_with(' ')).then_some((body, u32::from_str_radix(hex, 16).ok()?))
}

fn parse_header(body: &str) -> Option<Header> {
    let mut words = body.strip_prefix(MAGIC)?.strip_prefix(' ')?.trim_end().split(' ');
    let header = Header {
        network: words.next()?.parse().ok()?,
        boot_id: words.next()?.to_owned(),
        netns: words.next()?.parse().ok()?,
        epoch: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(header)
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
            let addresses = addresses.split(',').map(parse_net).collect::<Option<Vec<IpNet>>>()?;
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

/// As `IpNet::from_str`, in a fraction of the time: this is most of what a replay does.
fn parse_net(text: &str) -> Option<IpNet> {
    let (address, prefix_len) = text.split_once('/')?;
    IpNet::new(address.parse().ok()?, prefix_len.parse().ok()?).ok()
}

#[cfg(test)]
mod tests;
