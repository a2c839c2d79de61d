//! Compared with what nft 1.0.6 lists for the same rules.

use crate::matching::*;
use crate::name::{ChainName, SetName};
use crate::rule;
use crate::rule::*;
use crate::value::*;

const PODS: IfPrefix = IfPrefix::literal("slv");

#[test]
fn statements_read_as_nft_lists_them() {
    let (set, chain) = (SetName::literal("s"), ChainName::literal("c"));
    let rule = rule![iifname_prefix(&PODS), counter(), accept()].comment("say \"hello\"");
    assert_eq!(rule.to_string(), r#"iifname "slv*" counter accept comment "say 'hello'""#);
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    let rule = rule![!saddr(net("10.1.2.3/16")), daddr(net("fd00::1/128")), jump(&chain)];
    assert_eq!(rule.to_string(), "ip saddr != 10.1.0.0/16 ip6 daddr fd00::1 jump c");
    let rule = rule![!in_set([crate::Field::IifName, crate::Field::IpSaddr], &set), goto(&chain)];
    assert_eq!(rule.to_string(), "iifname . ip saddr != @s goto c");
    let rule = rule![mark_masked(0xf0, 0x10), ct_established(), !ct_state(CtStates::NEW), masquerade()];
    assert_eq!(
        rule.to_string(),
        "meta mark & 0x000000f0 == 0x00000010 ct state established,related ct state ! new masquerade fully-random"
    );
}

#[test]
fn what_a_later_match_implies_is_left_out() {
    let rule =
        rule![nfproto(IpVersion::V6), l4proto(L4Proto::ICMPV6), icmpv6_type(Icmp6Type::REDIRECT), drop()];
    assert_eq!(rule, rule![icmpv6_type(Icmp6Type::REDIRECT), drop()]);
    let kept = rule![nfproto(IpVersion::V4), icmpv6_type(Icmp6Type::REDIRECT)];
    assert_eq!(kept.to_string(), "meta nfproto ipv4 icmpv6 type nd-redirect");
}

#[test]
fn a_comment_is_cut_at_a_whole_character() {
    let comment = Comment::new(&"é".repeat(65));
    assert_eq!(comment.as_str().len(), 128);
    assert_eq!(Comment::new(&format!("x{}", "é".repeat(65))).as_str().len(), 127);
}
