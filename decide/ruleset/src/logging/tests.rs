use super::*;
use crate::rule::{drop, limit, log, update_limited};
use crate::{Field, Rule, SetName, Statement, rule};

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[test]
fn a_prefix_is_what_nft_can_read_back() {
    assert_eq!(LogPrefix::new(&"x".repeat(127)).unwrap().as_str().len(), LogPrefix::MAX);
    assert_eq!(LogPrefix::new(&"x".repeat(128)), None);
    assert_eq!((LogPrefix::new("a\"b"), LogPrefix::new("a\nb")), (None, None));
}

#[test]
fn what_is_told_and_how_often_are_shown_as_nft_does() {
    let second = Limit::per_second(number(5), number(10));
    let prefix = LogPrefix::new("denied: ").unwrap();
    let shown = |rule: Rule, text: &str| assert_eq!(rule.to_string(), text);
    shown(
        rule![limit(second), log(prefix.clone(), 7), drop()],
        "limit rate 5/second burst 10 packets log prefix \"denied: \" group 7 drop",
    );
    let short = Log { prefix: LogPrefix::default(), group: 7, snaplen: Some(number(64)) };
    shown(rule![Statement::Log(short)], "log group 7 snaplen 64");
    let over = Limit { per: Per::Day, burst: number(5), over: true, ..second };
    shown(rule![limit(over), drop()], "limit rate over 5/day drop");
    let seen = SetName::literal("seen");
    let update = update_limited([Field::IpSaddr], &seen, (std::time::Duration::from_secs(60), second));
    shown(rule![update], "update @seen { ip saddr timeout 1m limit rate 5/second burst 10 packets }");
}
