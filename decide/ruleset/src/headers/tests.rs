use super::*;

/// An IPv4 packet with four bytes of options.
fn v4(proto: u8, fragment: u16, carried: &[u8]) -> Vec<u8> {
    let [high, low] = fragment.to_be_bytes();
    let header = [0x46, 0, 0, 99, 0, 1, high, low, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0];
    [&header[..], carried].concat()
}

fn v6(next: u8, carried: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 99, next, 64];
    header.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
    header.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
    header.extend(carried);
    header
}

/// A TCP segment with SYN from port 40000 to port 80.
const SYN: [u8; 20] = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
const PORTS: Option<(u16, u16)> = Some((40_000, 80));

#[test]
fn both_families_and_what_they_carry_are_read() {
    let tcp = Headers::read(&v4(6, 0x4000, &SYN)).unwrap();
    assert_eq!((tcp.source.to_string(), tcp.destination.to_string()), ("10.0.0.1".into(), "10.0.0.2".into()));
    assert_eq!((tcp.proto, tcp.ports, tcp.icmp, tcp.tcp), (L4Proto::TCP, PORTS, None, Some(TcpFlags::SYN)));
    let udp = Headers::read(&v6(17, &SYN[..8])).unwrap();
    assert_eq!((udp.source.to_string(), udp.destination.to_string()), ("fd00::1".into(), "fd00::2".into()));
    assert_eq!((udp.proto, udp.ports, udp.icmp, udp.tcp), (L4Proto::UDP, PORTS, None, None));
    let sctp = Headers::read(&v4(132, 0, &SYN[..12])).unwrap();
    assert_eq!((sctp.proto, sctp.ports), (L4Proto::SCTP, PORTS));
    let ping = Headers::read(&v6(58, &[128, 0, 1, 2])).unwrap();
    assert_eq!((ping.proto, ping.ports, ping.icmp), (L4Proto::ICMPV6, None, Some((128, 0))));
    let unreachable = Headers::read(&v4(1, 0, &[3, 13, 0, 0])).unwrap();
    assert_eq!((unreachable.ports, unreachable.icmp), (None, Some((3, 13))));
    let gre = Headers::read(&v4(47, 0, &SYN)).unwrap();
    assert_eq!((gre.proto, gre.ports, gre.icmp, gre.tcp), (L4Proto(47), None, None, None));
}

#[test]
fn only_a_first_fragment_has_ports() {
    assert_eq!(Headers::read(&v4(17, 0x2000, &SYN)).unwrap().ports, PORTS);
    assert_eq!(Headers::read(&v4(17, 0x2001, &SYN)).unwrap().ports, None);
    let of = |offset: [u8; 2]| {
        let fragment = [&[17, 0, offset[0], offset[1], 0, 0, 0, 7], &SYN[..]].concat();
        let read = Headers::read(&v6(FRAGMENT, &fragment)).unwrap();
        (read.proto, read.ports)
    };
    assert_eq!(of([0, 1]), (L4Proto::UDP, PORTS));
    assert_eq!(of([0, 9]), (L4Proto::UDP, None));
}

#[test]
fn headers_between_are_passed_over() {
    let options = [OPTIONS, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let routing = [AUTHENTICATION, 0, 0, 0, 0, 0, 0, 0];
    let authentication = [6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let chain = [&options[..], &[ROUTING, 0, 0, 0, 0, 0, 0, 0], &routing, &authentication, &SYN].concat();
    let read = Headers::read(&v6(HOP_BY_HOP, &chain)).unwrap();
    assert_eq!((read.proto, read.ports, read.tcp), (L4Proto::TCP, PORTS, Some(TcpFlags::SYN)));
}

#[test]
fn what_is_cut_off_is_not_made_up() {
    let fragment = [&[6, 0, 0, 1, 0, 0, 0, 7], &SYN[..]].concat();
    for whole in [v4(6, 0, &SYN), v6(FRAGMENT, &fragment), v6(HOP_BY_HOP, &[6, 255, 0, 0])] {
        let all = Headers::read(&whole).unwrap();
        for end in 0..whole.len() {
            let Some(part) = Headers::read(&whole[..end]) else {
                assert!(end < 40, "{end} of {whole:?}");
                continue;
            };
            assert_eq!((part.source, part.destination), (all.source, all.destination));
            assert!(part.ports.is_none_or(|ports| Some(ports) == all.ports), "{end} of {whole:?}");
            assert!(part.tcp.is_none_or(|flags| Some(flags) == all.tcp), "{end} of {whole:?}");
        }
    }
    let mut short = v4(6, 0, &SYN);
    short[0] = 0x44;
    assert_eq!(Headers::read(&short), None, "a header shorter than any");
    assert_eq!(Headers::read(&[0x50; 60]), None, "neither IPv4 nor IPv6");
}
