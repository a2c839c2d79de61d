//! One entry of a table: a rule, a policy or the head of a user's chain, as `struct ipt_entry` or `struct ip6t_entry`
//! followed by its matches and its target (`linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter/x_tables.h`).

use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_model::NetworkName;
use selvedge_model::mark::FOREIGN_COMMENT;

use crate::{AcceptRule, Direction, Family, Malformed};

/// What an absolute verdict of a standard target is: `-NF_DROP - 1` and `-NF_ACCEPT - 1`.
pub(crate) const VERDICT_DROP: i32 = -1;
pub(crate) const VERDICT_ACCEPT: i32 = -2;

/// Size of `struct xt_entry_match` and `struct xt_entry_target`: a size (u16), a name, a revision.
const EXTENSION: usize = 32;
/// Where the name stands in it, and the end of that.
const EXTENSION_NAME: std::ops::Range<usize> = 2..31;
/// Size of `struct xt_standard_target`, padding included; the verdict stands right after the extension's header.
const STANDARD_TARGET: usize = 40;
/// Size of a comment, its terminator included.
const COMMENT_SIZE: usize = 256;

/// Where the fields of an entry stand, by family.
struct Layout {
    /// Size of an address. At the front stand source, destination, and the masks of both.
    address: usize,
    /// Start of `nfcache` (u32), followed by `target_offset` and `next_offset` (u16) and `comefrom` (u32).
    nfcache: usize,
    /// Size of the entry's own part, which ends in its counters. The matches follow.
    header: usize,
}

impl Layout {
    const fn of(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self { address: 4, nfcache: 84, header: 112 },
            Family::Ipv6 => Self { address: 16, nfcache: 136, header: 168 },
        }
    }
}

/// An entry, sound in its own bounds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    family: Family,
    bytes: Vec<u8>,
    /// The index of the entry where its standard target leads: the first of a user's chain or, in a rule without a
    /// target, the entry behind it. `None` if it leads to no place in the table.
    pub(crate) leads_to: Option<usize>,
    /// The index that the entry had in the table as read, where its counters will be found.
    pub(crate) was: Option<usize>,
}

impl Entry {
    /// Takes the entry that `blob` has at byte `at`. Where it leads is for the table to say.
    pub(crate) fn read(family: Family, blob: &[u8], at: usize) -> Result<Self, Malformed> {
        let malformed = |what| Malformed { what, at };
        let layout = Layout::of(family);
        let rest = blob.get(at..).unwrap_or_default();
        let target = u16_at(rest, layout.nfcache + 4).ok_or_else(|| malformed("half an entry"))?;
        let next = u16_at(rest, layout.nfcache + 6).ok_or_else(|| malformed("half an entry"))?;
        if target < layout.header || next < target + EXTENSION {
            return Err(malformed("an entry whose parts overlap"));
        }
        let bytes = rest.get(..next).ok_or_else(|| malformed("half an entry"))?.to_owned();
        Ok(Self { family, bytes, leads_to: None, was: None })
    }

    /// The rule `-s CIDR` or `-d CIDR`, `-m comment --comment "selvedge NETWORK" -j ACCEPT`, byte for byte as
    /// iptables writes it.
    pub(crate) fn accept(family: Family, network: &NetworkName, rule: AcceptRule) -> Self {
        let layout = Layout::of(family);
        let mut bytes = vec![0; layout.header];
        let place = match rule.direction {
            Direction::From => 0,
            Direction::To => layout.address,
        };
        put(&mut bytes, place, &octets(rule.cidr.network()));
        put(&mut bytes, place + 2 * layout.address, &octets(rule.cidr.netmask()));

        let mut comment = comment_text(network).into_bytes();
        comment.resize(COMMENT_SIZE, 0);
        push_extension(&mut bytes, b"comment", &comment);
        let target = bytes.len();
        let mut verdict = VERDICT_ACCEPT.to_ne_bytes().to_vec();
        verdict.resize(STANDARD_TARGET - EXTENSION, 0);
        push_extension(&mut bytes, b"", &verdict);

        let next = bytes.len();
        put(&mut bytes, layout.nfcache + 4, &size(target));
        put(&mut bytes, layout.nfcache + 6, &size(next));
        Self { family, bytes, leads_to: None, was: None }
    }

    /// The entry's size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes; those of the verdict are stale if the entry leads to another.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The network that our comment names; `None` if the entry bears no comment of ours.
    pub(crate) fn network(&self) -> Option<NetworkName> {
        let mut at = Layout::of(self.family).header;
        while at < self.target() {
            let length = u16_at(&self.bytes, at).filter(|&length| length >= EXTENSION)?;
            let end = (at + length).min(self.target());
            if c_string(&self.bytes[at..end], EXTENSION_NAME) == Some("comment") {
                let text = c_string(&self.bytes[at..end], EXTENSION..EXTENSION + COMMENT_SIZE);
                if let Some(network) = text.and_then(named_network) {
                    return Some(network);
                }
            }
            at = end;
        }
        None
    }

    /// The accept rule that the entry is, if it is one exactly as [`Entry::accept`] makes it.
    pub(crate) fn accept_rule(&self) -> Option<AcceptRule> {
        let network = self.network()?;
        [Direction::From, Direction::To].into_iter().find_map(|direction| {
            let rule = AcceptRule { cidr: self.cidr(direction)?, direction };
            let made = Self::accept(self.family, &network, rule);
            (made.significant() == self.significant()).then_some(rule)
        })
    }

    /// Where the verdict of a standard target stands in the entry; `None` for other targets.
    pub(crate) fn verdict_place(&self) -> Option<usize> {
        let standard = c_string(&self.bytes[self.target()..], EXTENSION_NAME) == Some("");
        (standard && self.bytes.len() >= self.target() + EXTENSION + 4).then(|| self.target() + EXTENSION)
    }

    /// The verdict of a standard target, as in the bytes.
    pub(crate) fn verdict(&self) -> Option<i32> {
        let bytes = self.bytes.get(self.verdict_place()?..)?.first_chunk()?;
        Some(i32::from_ne_bytes(*bytes))
    }

    fn target(&self) -> usize {
        u16_at(&self.bytes, Layout::of(self.family).nfcache + 4).unwrap_or(self.bytes.len())
    }

    fn cidr(&self, direction: Direction) -> Option<IpNet> {
        let width = Layout::of(self.family).address;
        let place = if direction == Direction::From { 0 } else { width };
        let at = |place| address(self.bytes.get(place..place + width)?);
        IpNet::with_netmask(at(place)?, at(place + 2 * width)?).ok()
    }

    /// The bytes without those that the kernel fills in: `nfcache`, `comefrom` and the counters.
    fn significant(&self) -> Vec<u8> {
        let layout = Layout::of(self.family);
        let mut bytes = self.bytes.clone();
        bytes[layout.nfcache..layout.nfcache + 4].fill(0);
        bytes[layout.nfcache + 8..layout.header].fill(0);
        bytes
    }
}

/// True if the comment of that network's rules has room for its name.
pub(crate) fn comment_fits(network: &NetworkName) -> bool {
    comment_text(network).len() < COMMENT_SIZE
}

fn comment_text(network: &NetworkName) -> String {
    format!("{FOREIGN_COMMENT} {network}")
}

fn named_network(comment: &str) -> Option<NetworkName> {
    comment.strip_prefix(FOREIGN_COMMENT)?.strip_prefix(' ')?.parse().ok()
}

/// Appends a match or a target of revision 0.
fn push_extension(bytes: &mut Vec<u8>, name: &[u8], data: &[u8]) {
    let start = bytes.len();
    bytes.resize(start + EXTENSION, 0);
    put(bytes, start, &size(EXTENSION + data.len()));
    put(bytes, start + EXTENSION_NAME.start, name);
    bytes.extend(data);
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A size within an entry of ours, all of which are small.
fn size(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(*octets.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*octets.first_chunk::<16>()?)),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)))
}

/// The text in that range, up to its first zero; `None` if it is cut short or not UTF-8.
fn c_string(bytes: &[u8], range: std::ops::Range<usize>) -> Option<&str> {
    let field = bytes.get(range)?;
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).ok()
}
