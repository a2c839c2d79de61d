//! Reading a journal, at once or piece by piece.

use ipnet::IpNet;
use selvedge_model::AttachmentKey;

use super::{Header, MAGIC, NoHeader, Operation, Writer, parse_net, parse_nets};
use crate::occupancy::{Conflict, Fingerprint, Occupancy};
use crate::table::{Lease, LeaseTable, TableError};

/// What the lines of a journal lead to.
pub trait State: Default {
    /// Takes a line in, or says why it can't be; then nothing is changed.
    fn take(&mut self, line: Line<'_>) -> Result<(), String>;

    /// What the first line of so long a journal is taken into.
    fn begin(_bytes: usize) -> Self {
        Self::default()
    }
}

/// A line whose number and checksum are right.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Where in the journal it begins.
    at: u32,
    /// Operation, container, interface, addresses, host end, time.
    fields: &'a [u8],
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<T = LeaseTable> {
    /// Its header.
    pub header: Header,
    /// What its whole lines lead to.
    pub table: T,
    /// Writes what comes after them.
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

/// Reads a journal with everything that it says of each lease: [`Replay::of`].
pub fn replay(bytes: &[u8]) -> Result<Replay, NoHeader> {
    Replay::of(bytes)
}

/// The lease that the line makes with which these bytes begin.
pub fn lease_in(bytes: &[u8]) -> Option<(AttachmentKey, Lease)> {
    let line = Lines { bytes, at: 0 }.next()?.ok()?;
    let (_, line) = Line::of(split_crc(line)?.0, 0)?;
    match line.operation()? {
        Operation::Allocate(key, lease) => Some((key, lease)),
        Operation::Free(..) | Operation::Undo(_) | Operation::Cursor(_) | Operation::Rest(..) => None,
    }
}

impl<T: State> Replay<T> {
    /// How many bytes at the end of what was whole [`Self::ends_as`] looks at.
    pub const MARK: usize = 9;

    /// Reads a journal up to its last whole line. A line that contradicts those before it counts as damaged.
    pub fn of(bytes: &[u8]) -> Result<Self, NoHeader> {
        let mut replay = Self::begin(bytes, bytes.len())?;
        replay.go_on(&bytes[replay.valid_len..]);
        Ok(replay)
    }

    /// Reads the header with which these bytes begin, of a journal that is so long.
    pub fn begin(bytes: &[u8], length: usize) -> Result<Self, NoHeader> {
        let mut lines = Lines { bytes, at: 0 };
        let first = lines.next().and_then(Result::ok).ok_or(NoHeader)?;
        let (body, crc) = split_crc(first).ok_or(NoHeader)?;
        if crc32c::crc32c(body) != crc {
            return Err(NoHeader);
        }
        let header = std::str::from_utf8(body).ok().and_then(parse_header).ok_or(NoHeader)?;
        Ok(Self {
            header,
            table: T::begin(length),
            writer: Writer { seq: 0, crc },
            valid_len: lines.at,
            records: 0,
            tail: Tail::Clean,
        })
    }

    /// Goes on with the bytes that follow what was whole until now.
    pub fn go_on(&mut self, bytes: &[u8]) {
        self.tail = Tail::Clean;
        let begin = self.valid_len;
        let mut lines = Lines { bytes, at: 0 };
        while let Some(line) = lines.next() {
            if let Err(why) = line.map_err(str::to_owned).and_then(|line| self.take(line)) {
                let last = lines.at >= bytes.len();
                self.tail = if last { Tail::Torn } else { Tail::Corrupt { line: self.records + 2, why } };
                break;
            }
            self.valid_len = begin + lines.at;
            self.records += 1;
        }
    }

    /// True if what was whole still ends as it did: its last checksum covers all that comes before.
    pub fn ends_as(&self, mark: &[u8]) -> bool {
        mark == format!("{:08x}\n", self.writer.crc).as_bytes()
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let (body, crc) = split_crc(line).ok_or("the line has no checksum")?;
        if crc32c::crc32c_append(self.writer.crc, body) != crc {
            return Err("the checksum is wrong".to_owned());
        }
        let at = u32::try_from(self.valid_len).map_err(|_too_long| "the journal is longer than 4 GiB")?;
        let (found, line) = Line::of(body, at).ok_or("the line has no number")?;
        let seq = self.writer.seq + 1;
        if found != seq {
            return Err(format!("the line's number is {found}, not {seq}"));
        }
        self.table.take(line)?;
        self.writer = Writer { seq, crc };
        Ok(())
    }
}

impl<'a> Line<'a> {
    /// What the checksum covers, as the line's number and the rest.
    fn of(body: &'a [u8], at: u32) -> Option<(u64, Self)> {
        let space = memchr::memchr(b' ', body)?;
        Some((number(&body[..space])?, Self { at, fields: body[space + 1..].trim_ascii_end() }))
    }

    fn operation(&self) -> Option<Operation> {
        std::str::from_utf8(self.fields).ok()?.parse().ok()
    }

    fn unknown(&self) -> String {
        format!("{:?} is no operation", String::from_utf8_lossy(self.fields))
    }
}

impl State for LeaseTable {
    fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        let operation = line.operation().ok_or_else(|| line.unknown())?;
        self.apply(operation).map_err(|why| why.to_string())
    }
}

impl LeaseTable {
    /// Carries out an operation.
    pub fn apply(&mut self, operation: Operation) -> Result<(), TableError> {
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

/// About the length of a lease's line.
const LINE: usize = 112;

/// The names in a line are not looked at: its checksum says that we wrote it.
impl State for Occupancy {
    fn begin(bytes: usize) -> Self {
        Self::with_room(bytes / LINE)
    }

    fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        let fields = Fields::of(line.fields).ok_or_else(|| line.unknown())?;
        let changed = match fields.operation {
            b"A" => {
                let nets = fields.nets().ok_or_else(|| line.unknown())?;
                self.insert(fields.key, line.at, nets.as_slice())
            }
            b"F" => self.remove(fields.key, Some(fields.at)),
            b"U" => self.remove(fields.key, None),
            b"C" => {
                self.set_cursor(parse_net(fields.addresses).ok_or_else(|| line.unknown())?);
                Ok(())
            }
            b"Q" => self.rest(fields.addresses.parse().map_err(|_unread| line.unknown())?, fields.at),
            _ => return Err(line.unknown()),
        };
        changed.map_err(|conflict| format!("{} contradicts what comes before: {conflict:?}", line.unknown()))
    }
}

impl Occupancy {
    /// Whether a line with this operation could be taken in.
    pub fn allows_operation(&self, operation: &Operation) -> Result<(), Conflict> {
        match operation {
            Operation::Allocate(key, lease) => self.allows(Fingerprint::of(key), &lease.addresses),
            Operation::Free(key, _) | Operation::Undo(key) => self.allows_free(Fingerprint::of(key)),
            Operation::Rest(address, _) => self.allows_address(*address),
            Operation::Cursor(_) => Ok(()),
        }
    }
}

/// A line's fields, as far as it takes to know what is taken.
struct Fields<'a> {
    operation: &'a [u8],
    key: Fingerprint,
    addresses: &'a str,
    at: u64,
}

/// The addresses of a line: hardly ever more than one a family.
enum Nets {
    Few([IpNet; 2], usize),
    Many(Vec<IpNet>),
}

impl<'a> Fields<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut spaces = memchr::memchr_iter(b' ', line);
        let ends = [spaces.next()?, spaces.next()?, spaces.next()?, spaces.next()?, spaces.next()?];
        if spaces.next().is_some() {
            return None;
        }
        let [operation, _container, key, addresses, veth] = ends;
        Some(Self {
            operation: &line[..operation],
            key: Fingerprint::of_text(&line[operation + 1..key]),
            addresses: std::str::from_utf8(&line[key + 1..addresses]).ok()?,
            at: number(&line[veth + 1..])?,
        })
    }

    fn nets(&self) -> Option<Nets> {
        let mut nets = parse_nets(self.addresses);
        let Some(first) = nets.next() else { return Some(Nets::Many(Vec::new())) };
        let first = first?;
        let Some(second) = nets.next() else { return Some(Nets::Few([first; 2], 1)) };
        let second = second?;
        let mut more = nets.collect::<Option<Vec<IpNet>>>()?;
        if more.is_empty() {
            return Some(Nets::Few([first, second], 2));
        }
        more.splice(..0, [first, second]);
        Some(Nets::Many(more))
    }
}

impl Nets {
    fn as_slice(&self) -> &[IpNet] {
        match self {
            Self::Few(nets, count) => &nets[..*count],
            Self::Many(nets) => nets,
        }
    }
}

/// Lines without their line break; what has none at the end is an error.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.at = self.bytes.len();
            return Some(Err("the line has no end"));
        };
        self.at += end + 1;
        Some(Ok(&rest[..end]))
    }
}

/// What each byte is as a hexadecimal digit; more than 15 if it is none.
const HEX: [u8; 256] = {
    let (mut digits, mut value) = ([255; 256], 0);
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// A line as what the checksum covers and the checksum.
fn split_crc(line: &[u8]) -> Option<(&[u8], u32)> {
    let (body, hex) = line.split_last_chunk::<8>()?;
    let (crc, wrong) = hex.iter().fold((0, 0), |(crc, wrong), byte| {
        let digit = HEX[usize::from(*byte)];
        (crc << 4 | u32::from(digit), wrong | digit)
    });
    if wrong > 15 {
        return None;
    }
    body.ends_with(b" ").then_some((body, crc))
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
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
