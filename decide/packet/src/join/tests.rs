//! What is cut and joined again is what it was.

use proptest::prelude::*;

use super::*;
use crate::cut::Cut;

/// A TCP packet of either family with no checksums yet, and what its device says of it.
fn packet(v6: bool, payload: &[u8], (size, flags): (u16, u8)) -> (Vec<u8>, Offload) {
    let mut tcp = vec![0x1f, 0x90, 0, 80, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9, 0x80, flags, 1, 0, 0, 0, 0, 0];
    tcp.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    tcp.extend(payload);
    let mut bytes = if v6 {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, TCP, 64];
        ip[4..6].copy_from_slice(&be16(tcp.len()));
        ip.extend([0xfd, 0, 0, 1].iter().chain(&[0; 11]).chain(&[7]));
        ip.extend([0xfd, 0, 0, 2].iter().chain(&[0; 11]).chain(&[9]));
        ip
    } else {
        let mut ip = vec![0x45, 0, 0, 0, 0xff, 0xfe, 0x40, 0, 64, TCP, 0, 0, 10, 244, 0, 7, 10, 244, 1, 9];
        ip[2..4].copy_from_slice(&be16(20 + tcp.len()));
        let checksum = finish(sum(&ip));
        ip[10..12].copy_from_slice(&checksum);
        ip
    };
    let transport = bytes.len();
    bytes.extend(&tcp);
    let ends = Ends::of(&bytes).unwrap();
    let part = fold(pseudo(&ends, TCP, tcp.len())).to_ne_bytes();
    bytes[transport + 16..transport + 18].copy_from_slice(&part);
    let kind = if v6 { Segmentation::Tcp6 } else { Segmentation::Tcp4 };
    let header = length16(transport + 32);
    (bytes, Offload { checksum: Some((length16(transport), 16)), segments: Some((kind, size)), header })
}

/// The parts of a packet, one after the other, with their places.
fn parts(packet: &mut [u8], offload: &Offload) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut headers = Vec::new();
    let cut = Cut::of(packet, offload, &mut headers).unwrap();
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for index in 0..cut.count() {
        let (header, payload) = cut.place(index);
        let start = all.len();
        all.extend(&headers[header]);
        all.extend(&packet[payload]);
        places.push(start..all.len());
        assert!(all.len() - start <= cut.part());
    }
    (all, places)
}

/// What comes of packets that are pushed in that order.
fn joined(buffer: &mut [u8], places: &[Range<usize>]) -> Vec<(Offload, Vec<u8>)> {
    let mut joiner = Joiner::default();
    for place in places {
        joiner.push(buffer, place.clone());
    }
    let mut all = Vec::new();
    joiner.finish(buffer, |buffer, joined| {
        let bytes = joined.pieces.iter().flat_map(|piece| buffer[piece.clone()].iter().copied()).collect();
        all.push((joined.offload, bytes));
    });
    all
}

proptest! {
    #[test]
    fn what_is_cut_and_joined_is_what_it_was(
        v6: bool, payload in prop::collection::vec(any::<u8>(), 2..5000), size in 1u16..1400, push: bool,
    ) {
        let flags = if push { ACK | PSH } else { ACK };
        let (original, offload) = packet(v6, &payload, (size, flags));
        let (mut buffer, places) = parts(&mut original.clone(), &offload);
        for place in &places {
            let segment = Segment::of(&buffer[place.clone()]).unwrap();
            prop_assert!(segment.is_right(&buffer[place.clone()]));
        }
        let all = joined(&mut buffer, &places);
        prop_assert_eq!(all.len(), 1);
        if places.len() > 1 {
            prop_assert_eq!(&all[0], &(offload, original));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..200, kind: u8) {
        let places: Vec<_> =
            (0..bytes.len()).step_by(size).map(|at| at..(at + size).min(bytes.len())).collect();
        joined(&mut bytes.clone(), &places);
        let mut header = [0; Offload::LENGTH];
        for (to, from) in header.iter_mut().zip(&bytes) {
            *to = *from;
        }
        header[1] = kind % 6;
        if let Some(offload) = Offload::read(&header) {
            Cut::of(&mut bytes.clone(), &offload, &mut Vec::new()).ok();
        }
    }
}

#[test]
fn only_what_follows_is_joined() {
    let (original, offload) = packet(false, &[7; 1000], (100, ACK));
    let (buffer, places) = parts(&mut original.clone(), &offload);
    let runs = |buffer: &[u8], places: &[Range<usize>]| joined(&mut buffer.to_vec(), places).len();
    assert_eq!(runs(&buffer, &places), 1);
    let swapped: Vec<_> = places.iter().rev().cloned().collect();
    assert_eq!(runs(&buffer, &swapped), 10, "the wrong way round");
    let gap: Vec<_> = places[..4].iter().chain(&places[5..]).cloned().collect();
    assert_eq!(runs(&buffer, &gap), 2, "one is missing");
    for (offset, why) in [(1, "ECN"), (8, "TTL"), (60, "payload"), (11, "IP checksum"), (48, "timestamp")] {
        let mut other = buffer.clone();
        other[places[5].start + offset] ^= 1;
        assert_eq!(runs(&other, &places), 3, "one differs in its {why}");
        let mut first = buffer.clone();
        first[places[0].start + offset] ^= 1;
        assert_eq!(runs(&first, &places), 2, "the first differs in its {why}");
    }
}

#[test]
fn flags_go_where_they_belong() {
    let (fin, cwr) = (1, 0x80);
    let (mut original, offload) = packet(false, &[7; 300], (100, ACK | PSH | fin | cwr));
    let (buffer, places) = parts(&mut original, &offload);
    let flags: Vec<_> = places.iter().map(|place| buffer[place.start + 20 + FLAGS]).collect();
    assert_eq!(flags, [ACK | cwr, ACK, ACK | PSH | fin]);
}

#[test]
fn udp_is_cut_with_right_checksums() {
    let mut udp = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 244, 0, 7, 10, 244, 1, 9];
    udp.extend([0, 53, 0, 54, 0, 0, 0, 0]);
    udp.extend([9; 250]);
    let length = be16(udp.len());
    udp[2..4].copy_from_slice(&length);
    let offload = Offload { checksum: Some((20, 6)), segments: Some((Segmentation::Udp, 100)), header: 28 };
    let (buffer, places) = parts(&mut udp, &offload);
    assert_eq!(places.iter().map(Range::len).collect::<Vec<_>>(), [128, 128, 78]);
    for place in places {
        let part = &buffer[place];
        let ends = Ends::of(part).unwrap();
        assert_eq!(fold(sum(&part[..20])), 0xffff);
        assert_eq!(fold(pseudo(&ends, 17, part.len() - 20) + sum(&part[20..])), 0xffff);
        assert_eq!(usize::from(u16::from_be_bytes([part[24], part[25]])), part.len() - 20);
    }
}

#[test]
fn a_packet_that_stays_whole_gets_its_checksum() {
    let (mut bytes, offload) = packet(true, &[1, 2, 3], (100, ACK));
    let offload = Offload { segments: None, ..offload };
    let cut = Cut::of(&mut bytes, &offload, &mut Vec::new()).unwrap();
    assert_eq!((cut.count(), cut.place(0)), (1, (0..0, 0..bytes.len())));
    assert!(Segment::of(&bytes).unwrap().is_right(&bytes));
}
