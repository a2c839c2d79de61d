use serde_json::json;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("list the routes")]
struct Outer {
    source: std::io::Error,
}

#[test]
fn an_error_object_carries_version_code_message_and_details() {
    let error = CniError::new(code::CONFIG, "mtu 5: is outside 1280 to 65535").with_details("line 1\nline 2");
    let expected = json!({
        "cniVersion": "0.4.0", "code": 7, "msg": "mtu 5: is outside 1280 to 65535", "details": "line 1\nline 2"
    });
    assert_eq!(error.to_json(Version::V0_4_0), expected);
}

#[test]
fn details_are_left_out_when_there_are_none() {
    let object = CniError::new(code::KERNEL, "no").to_json(Version::CURRENT);
    assert_eq!(object, json!({ "cniVersion": "1.1.0", "code": 102, "msg": "no" }));
}

#[test]
fn what_turns_the_direction_of_writing_is_escaped_in_a_message_and_letters_are_not() {
    let error = CniError::new(code::CONFIG, "mtu \u{202e}5\u{200b}: größer, 大");
    assert_eq!(error.message(), "mtu \\u{202e}5\\u{200b}: größer, 大");
    assert_eq!(error.clone().context("read").message(), format!("read: {error}"));
}

#[test]
fn a_message_is_one_line() {
    assert_eq!(CniError::new(code::IO, "a\r\nb\tc").message(), "a  b c");
}

#[test]
fn a_cause_chain_names_each_cause_once() {
    let error = Outer { source: std::io::Error::other("netlink: EBUSY") };
    assert_eq!(CniError::from_chain(code::KERNEL, &error).message(), "list the routes: netlink: EBUSY");
}

#[test]
fn context_keeps_code_and_details() {
    let error = CniError::new(code::NO_ADDRESS, "full").with_details("254 of 254").context("attach c-1/eth0");
    assert_eq!(
        (error.code(), error.message(), error.details()),
        (101, "attach c-1/eth0: full", "254 of 254")
    );
}

#[test]
fn what_del_reports_never_reads_as_already_gone() {
    let error = CniError::new(code::KERNEL, "open /x: No such file or directory; link Not Found, not found")
        .with_details("journal not found")
        .for_del();
    assert_eq!(error.message(), "open /x: absent; link missing, missing");
    assert_eq!(error.details(), "journal missing");
}

#[test]
fn rewording_keeps_text_of_other_scripts() {
    let error = CniError::new(code::KERNEL, "„ärger“ not found – İx").for_del();
    assert_eq!(error.message(), "„ärger“ missing – İx");
}

#[test]
fn another_plugins_error_object_is_read_unchanged() {
    let value = json!({ "CNIVersion": "1.0.0", "Code": 11.0, "msg": "a\nb", "Details": "d" });
    let error = CniError::parse(&value).unwrap();
    assert_eq!((error.code(), error.message(), error.details()), (11, "a\nb", "d"));
}

#[test]
fn what_is_no_error_object_is_not_taken_for_one() {
    for value in
        [json!(null), json!([]), json!({}), json!({ "msg": "x" }), json!({ "code": "7" }), json!({"code": 0})]
    {
        assert_eq!(CniError::parse(&value), None, "{value} was taken for an error");
    }
}
