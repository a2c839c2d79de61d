//! Readers that must take whatever bytes come: each function feeds one, and panics where it breaks a promise.
//!
//! `corpus/NAME` has the inputs that the function of that name has been given, found by search or written by hand; the
//! tests give it all of them again. `make fuzz` searches for more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use selvedge_cni::{Environment, Request, Version};
use selvedge_ipam::journal;
use selvedge_ruleset::Headers;
use selvedge_source::{Manifests, Snapshot};

/// The plugin's environment, a `NAME=VALUE` a line up to an empty line, and its configuration after that.
///
/// # Panics
/// If what is refused is refused with words that no runtime could read.
pub fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (variables, stdin) = text.split_once("\n\n").unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let stdin = stdin.as_bytes();
    let Err(error) = Request::parse(&Environment::new(variables), stdin) else { return };
    assert!(error.code() > 0 && !error.message().is_empty(), "{error:?}");
    assert!(!error.message().contains('\n'), "more than a line: {error:?}");
    let shown = error.to_json(Version::of_answer(stdin));
    assert_eq!(shown["code"].as_u64(), Some(u64::from(error.code())), "{shown}");
}

/// A journal of leases.
///
/// # Panics
/// If what it says, written down and read again, is something else.
pub fn journal(bytes: &[u8]) {
    let Ok(read) = journal::replay(bytes) else { return };
    assert!(read.valid_len <= bytes.len(), "more was read than is there");
    let whole = journal::replay(&bytes[..read.valid_len]).map(|again| again.table);
    assert_eq!(whole.as_ref(), Ok(&read.table), "the whole lines alone say something else");
    let (_, text) = journal::write(&read.header, &read.table);
    let again = journal::replay(text.as_bytes()).map(|again| again.table);
    assert_eq!(again.as_ref(), Ok(&read.table), "written anew it says something else");
}

/// A journal's operations, one a line, as the journal has them between a line's number and its checksum. What a search
/// by chance never finds, the checksums, is put around them.
///
/// # Panics
/// As [`journal()`].
pub fn operations(bytes: &[u8]) {
    let header = "selvedge-ipam 1 mynet 6d1fe0d4-9d5b-4b4e-a3c8-0e2f6f9d7a11 4026531840 1 ";
    let mut crc = crc32c::crc32c(header.as_bytes());
    let mut text = format!("{header}{crc:08x}\n").into_bytes();
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let body = [format!("{number} ").as_bytes(), line, b" "].concat();
        crc = crc32c::crc32c_append(crc, &body);
        text.extend(body);
        text.extend(format!("{crc:08x}\n").bytes());
    }
    journal(&text);
}

/// A datagram of rtnetlink.
pub fn rtnetlink(bytes: &[u8]) {
    drop(selvedge_netlink::recorded(bytes));
}

/// A datagram of nfnetlink.
pub fn nfnetlink(bytes: &[u8]) {
    drop(selvedge_nft::recorded(bytes));
}

/// A packet from its IP header on.
///
/// # Panics
/// If less of it says something else.
pub fn headers(bytes: &[u8]) {
    let whole = Headers::read(bytes);
    for end in 0..bytes.len() {
        let Some(part) = Headers::read(&bytes[..end]) else { continue };
        let same = whole.is_some_and(|whole| {
            (whole.source, whole.destination) == (part.source, part.destination)
                && (part.ports.is_none() || (part.proto, part.ports) == (whole.proto, whole.ports))
                && (part.icmp.is_none() || part.icmp == whole.icmp)
        });
        assert!(same, "of {end} bytes: {part:?}");
    }
}

/// A folder of manifests: files, with a form feed between them.
///
/// # Panics
/// If the same files say something else the second time, or a file that is no more leaves something behind.
pub fn manifests(bytes: &[u8]) {
    let files = || {
        let texts = bytes.split(|byte| *byte == 0x0c).enumerate();
        texts.map(|(number, text)| (PathBuf::from(format!("{number}.yaml")), Ok(text.to_vec()))).collect()
    };
    let mut manifests = Manifests::default();
    let first: Snapshot = manifests.update(files());
    assert_eq!(manifests.update(files()), first, "the same files say something else");
    assert_eq!(Manifests::default().update(files()), first, "another reader says something else");
    let nothing = Manifests::default().update(BTreeMap::new());
    assert_eq!(manifests.update(BTreeMap::new()), nothing, "files that are gone left something");
}
