use serde_json::json;

use super::*;
use crate::json::Object;

fn delegate(path: &[&str]) -> Delegate {
    let conf = json!({ "cniVersion": "0.4.0" });
    let path: Vec<PathBuf> = path.iter().map(PathBuf::from).collect();
    let source = Source { conf: &Object::root(&conf).unwrap(), stdin: b"{}", path: &path };
    Delegate::new("host-local".parse().unwrap(), &source)
}

fn added(stdout: &str) -> Result<AddResult, CniError> {
    delegate(&["/a"]).added(Exit::Code(0), stdout.as_bytes())
}

#[test]
fn a_plugin_name_is_never_a_path() {
    for bad in ["", ".", "..", "a/b", "/bin/sh", "../x", "a\0b"] {
        assert!(bad.parse::<PluginName>().is_err(), "{bad:?} was accepted");
    }
    assert_eq!("host-local".parse::<PluginName>().unwrap().to_string(), "host-local");
}

#[test]
fn candidates_follow_the_path_in_order() {
    assert_eq!(
        delegate(&["/b", "/a"]).candidates(),
        [PathBuf::from("/b/host-local"), "/a/host-local".into()]
    );
}

#[test]
fn a_plugin_in_no_directory_is_told_with_the_directories() {
    let error = delegate(&["/b", "/a"]).nowhere();
    assert_eq!(error.code(), code::DELEGATE);
    assert_eq!(error.message(), "IPAM plugin host-local is in no directory of CNI_PATH (/b:/a)");
    assert!(delegate(&[]).nowhere().message().contains("CNI_PATH is missing"));
}

#[test]
fn an_answer_of_any_version_is_understood() {
    let rows = [
        json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.1.0.5/16", "gateway": "10.1.0.1" } }),
        json!({ "cniVersion": "0.3.1", "ips": [{ "version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1" }] }),
        json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.1.0.5/16", "gateway": "10.1.0.1" }] }),
        json!({ "ips": [{ "version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 3 }] }),
        json!({ "cniVersion": "", "ips": [{ "address": "10.1.0.5/16", "gateway": "10.1.0.1" }], "routes": null }),
    ];
    for answer in rows {
        let result = added(&answer.to_string()).unwrap();
        assert_eq!(result.ips.len(), 1, "{answer}");
        assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
        assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(result.ips[0].interface, None);
    }
}

#[test]
fn an_answer_without_an_address_is_an_error() {
    for answer in ["null", "", "\n", "{}", r#"{"cniVersion":"1.0.0","ips":[]}"#] {
        let error = added(answer).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (103, "IPAM plugin host-local answered ADD without an address")
        );
    }
}

#[test]
fn garbage_is_an_error_that_names_the_plugin() {
    for answer in ["ok", "{", "[]", "3", r#"{"cniVersion":"7.0.0"}"#, r#"{"ips":[{"address":"x"}]}"#] {
        let error = added(answer).unwrap_err();
        assert_eq!(error.code(), code::DELEGATE, "{answer}");
        assert!(error.message().starts_with("IPAM plugin host-local answered ADD with what "), "{error}");
    }
}

#[test]
fn its_error_object_is_passed_on_with_its_code() {
    let stdout = br#"{"cniVersion":"1.0.0","code":11,"msg":"range full","details":"x"}"#;
    for exit in [Exit::Code(1), Exit::Code(0), Exit::Signal(6)] {
        let error = delegate(&["/a"]).added(exit, stdout).unwrap_err();
        assert_eq!((error.code(), error.message(), error.details()), (11, "range full", "x"));
    }
    assert_eq!(delegate(&["/a"]).done(Exit::Code(1), stdout).unwrap_err().code(), 11);
}

#[test]
fn a_silent_end_is_told_by_its_manner() {
    let rows = [
        (Exit::Code(1), "IPAM plugin host-local exited with 1 without an error object"),
        (Exit::Signal(9), "IPAM plugin host-local was killed by signal 9 without an error object"),
        (Exit::TimedOut, "IPAM plugin host-local took too long and was killed without an error object"),
    ];
    for (exit, message) in rows {
        assert_eq!(delegate(&["/a"]).done(exit, b"").unwrap_err().message(), message);
    }
    let error = delegate(&["/a"]).done(Exit::Code(2), b"panic: \xff boom\n").unwrap_err();
    assert_eq!(error.details(), "panic: \u{fffd} boom");
}

#[test]
fn success_of_the_other_verbs_needs_no_answer() {
    assert_eq!(delegate(&["/a"]).done(Exit::Code(0), b"whatever"), Ok(()));
}

/// Regression: whatever it said was given to the pod, or left out without a word.
#[test]
fn an_answer_that_a_pod_can_not_be_given_is_refused_by_its_field() {
    let refused = |answer: &str| delegate(&["/a"]).added(Exit::Code(0), answer.as_bytes()).unwrap_err();
    for address in [
        "0.0.0.0/0",
        "127.0.0.5/8",
        "224.0.0.5/24",
        "169.254.7.7/16",
        "fe80::5/64",
        "::/64",
        "::1/128",
        "::ffff:10.5.0.2/120",
    ] {
        let error = refused(&format!(r#"{{"ips": [{{"address": "{address}"}}]}}"#));
        assert_eq!(error.code(), code::DELEGATE);
        assert!(error.message().contains(&format!("ips[0].address \"{address}\": meets ")), "{error}");
        let old = if address.contains(':') { "ip6" } else { "ip4" };
        let error = refused(&format!(r#"{{"cniVersion": "0.2.0", "{old}": {{"ip": "{address}"}}}}"#));
        assert!(error.message().contains(&format!("{old}.ip \"{address}\": meets ")), "{error}");
    }
    for key in ["mtu", "advmss", "priority", "table", "scope"] {
        let route = format!(r#"{{"dst": "10.9.0.0/16", "{key}": 99}}"#);
        let error = refused(&format!(r#"{{"ips": [{{"address": "10.5.0.2/24"}}], "routes": [{route}]}}"#));
        assert_eq!(error.code(), code::DELEGATE);
        assert!(error.message().contains(&format!("routes[0].{key} 99: ")), "{error}");
    }
}
