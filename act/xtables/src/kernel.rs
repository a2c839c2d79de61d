//! The kernel's side of a filter table: whether it exists, reading it, replacing it, counting on.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sockopt;
use crate::table::{Counters, HOOKS, Image};
use crate::{Family, XtablesError};

/// `char name[XT_TABLE_MAXNAMELEN]` of every request: "filter" and zeros.
const TABLE: [u8; 32] = {
    let mut name = [0; 32];
    let (text, _) = name.split_at_mut(6);
    text.copy_from_slice(b"filter");
    name
};

/// Size of `struct ipt_getinfo`.
const INFO_SIZE: usize = 84;

/// Where the table starts in `struct ipt_get_entries`, and the counters in `struct xt_counters_info`: after the
/// name, a number, and four bytes of padding.
const HEADER_SIZE: usize = 40;

/// True if the filter table exists in this thread's network namespace. Asking doesn't create it.
pub(crate) fn filter_table_exists(family: Family) -> Result<bool, XtablesError> {
    // Not /proc/net, which shows the namespace of the process's first thread.
    let path = Path::new(match family {
        Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    });
    match std::fs::read_to_string(path) {
        Ok(names) => Ok(names.lines().any(|name| name == "filter")),
        // The kernel was built without legacy tables, or the module isn't loaded.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(XtablesError::Names { family, path: path.to_owned(), source }),
    }
}

/// A socket through which one family's tables are reached. Any of the family does; a raw one would need CAP_NET_RAW.
pub(crate) struct Socket {
    fd: OwnedFd,
    family: Family,
}

impl Socket {
    pub(crate) fn open(family: Family) -> Result<Self, XtablesError> {
        let domain = match family {
            Family::Ipv4 => AddressFamily::INET,
            Family::Ipv6 => AddressFamily::INET6,
        };
        let fd = socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| XtablesError::Socket { family, source: e.into() })?;
        Ok(Self { fd, family })
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// The table as it stands. Fails with EAGAIN (`WouldBlock`) if it changed between two questions.
    pub(crate) fn read(&self) -> io::Result<Image> {
        let mut info = TABLE.to_vec();
        info.resize(INFO_SIZE, 0);
        sockopt::get(&self.fd, self.family, sockopt::GET_INFO, &mut info)?;
        let (words, _) = info[TABLE.len()..].as_chunks::<4>();
        let word = |i: usize| u32::from_ne_bytes(words[i]);
        let size = word(12);

        let mut entries = TABLE.to_vec();
        entries.extend(size.to_ne_bytes());
        entries.resize(HEADER_SIZE + size as usize, 0);
        sockopt::get(&self.fd, self.family, sockopt::GET_ENTRIES, &mut entries)?;
        entries.drain(..HEADER_SIZE);
        Ok(Image {
            valid_hooks: word(0),
            hook_entry: HOOKS.map(|hook| word(1 + hook)),
            underflow: HOOKS.map(|hook| word(6 + hook)),
            count: word(11),
            blob: entries,
        })
    }

    /// Puts `image` in the place of a table of `old_count` entries and returns what that had counted, entry by
    /// entry. Fails with EAGAIN (`WouldBlock`), changing nothing, if the table has another number of entries by now.
    pub(crate) fn replace(&self, image: &Image, old_count: usize) -> io::Result<Vec<Counters>> {
        let size = u32::try_from(image.blob.len()).map_err(io::Error::other)?;
        let mut words = vec![image.valid_hooks, image.count, size];
        for offsets in [&image.hook_entry, &image.underflow] {
            let mut all = [0; 5];
            for (&hook, &offset) in HOOKS.iter().zip(offsets) {
                all[hook] = offset;
            }
            words.extend(all);
        }
        let mut head = TABLE.to_vec();
        head.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        sockopt::replace(&self.fd, self.family, sockopt::Replacement { head, blob: &image.blob, old_count })
    }

    /// Adds to the counters of each entry, in the table's order.
    pub(crate) fn add_counters(&self, counters: &[Counters]) -> io::Result<()> {
        let count = u32::try_from(counters.len()).map_err(io::Error::other)?;
        let mut request = TABLE.to_vec();
        request.extend(count.to_ne_bytes());
        request.resize(HEADER_SIZE, 0);
        request.extend(counters.iter().flatten().flat_map(|n| n.to_ne_bytes()));
        sockopt::add_counters(&self.fd, self.family, &request)
    }
}
