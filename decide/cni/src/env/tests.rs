use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

fn asked(verb: &str) -> Result<Option<Command>, CniError> {
    command(&Environment::new([("CNI_COMMAND", verb)]))
}

#[test]
fn verbs_are_read_in_capitals() {
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
        assert_eq!(asked(verb).unwrap().unwrap().as_str(), verb);
    }
    for verb in ["add", "ADD ", "FROB"] {
        let error = asked(verb).unwrap_err();
        assert_eq!((error.code(), error.message()), (4, format!("unknown CNI_COMMAND: {verb}").as_str()));
    }
}

#[test]
fn no_verb_is_a_persons_call() {
    assert_eq!(asked("").unwrap(), None);
    assert_eq!(command(&Environment::default()).unwrap(), None);
}

#[test]
fn missing_variables_are_all_named() {
    let rows = [
        (Command::Add, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"),
        (Command::Check, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"),
        (Command::Del, "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing"),
        (Command::Gc, "required env variables [CNI_PATH] missing"),
    ];
    for (command, message) in rows {
        let error = Environment::new([("CNI_CONTAINERID", "")]).require(command).unwrap_err();
        assert_eq!((error.code(), error.message()), (4, message));
    }
    for command in [Command::Status, Command::Version] {
        assert_eq!(Environment::default().require(command), Ok(()));
    }
}

#[test]
fn a_container_id_that_is_a_path_is_refused_by_its_variable() {
    for id in ["../x", "/x", "-x", "a b", "a\nb"] {
        let environment = Environment::new([("CNI_CONTAINERID", id), ("CNI_IFNAME", "eth0")]);
        let error = environment.attachment().unwrap_err();
        assert_eq!(error.code(), 4);
        assert!(
            error.message().starts_with("CNI_CONTAINERID: ") && !error.message().contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn an_interface_name_that_the_kernel_would_refuse_is_refused_by_its_variable() {
    for ifname in [".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
        let environment = Environment::new([("CNI_CONTAINERID", "c"), ("CNI_IFNAME", ifname)]);
        let error = environment.attachment().unwrap_err();
        assert_eq!(error.code(), 4);
        assert!(error.message().starts_with("CNI_IFNAME: "), "{error}");
    }
}

#[test]
fn a_container_id_may_be_long() {
    let id = "a".repeat(5000);
    let environment = Environment::new([("CNI_CONTAINERID", id.as_str()), ("CNI_IFNAME", "fifteen-bytes-x")]);
    assert_eq!(environment.attachment().unwrap().container.as_str(), id);
}

#[test]
fn text_that_is_no_utf8_is_refused_by_its_variable() {
    let garbled = OsStr::from_bytes(b"c\xff").to_owned();
    let environment = Environment::new([("CNI_CONTAINERID", garbled), ("CNI_IFNAME", "eth0".into())]);
    let error = environment.attachment().unwrap_err();
    assert_eq!((error.code(), error.message()), (4, r#"CNI_CONTAINERID "c\xFF" is no UTF-8"#));
}

#[test]
fn other_variables_are_not_kept() {
    let environment = Environment::new([("PATH", "/bin"), ("XDG_RUNTIME_DIR", ""), ("TRACE", "00-1")]);
    assert_eq!(environment, Environment::default());
}

#[test]
fn the_path_leaves_out_the_working_directory() {
    let environment = Environment::new([("CNI_PATH", ":/opt/cni/bin::/usr/lib/cni:")]);
    assert_eq!(environment.path(), [PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")]);
}

#[test]
fn the_override_of_the_namespace_check_is_1_or_true() {
    for (value, allowed) in
        [("1", true), ("true", true), ("TRUE", true), ("0", false), ("yes", false), ("", false)]
    {
        assert_eq!(Environment::new([("CNI_NETNS_OVERRIDE", value)]).netns_override(), allowed, "{value}");
    }
}

#[test]
fn the_trace_is_named_as_agreed_or_not_at_all() {
    let of = |value: &str| Environment::new([("TRACEPARENT", value)]).trace_parent().map(str::to_owned);
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    for good in [format!("00-{trace}-{parent}-01"), format!("01-{trace}-{parent}-00-more-of-it")] {
        assert_eq!(of(&good).as_deref(), Some(good.as_str()));
    }
    let none = "0".repeat(32);
    for bad in [
        String::new(),
        format!("00-{trace}-{parent}"),
        format!("00-{trace}-{parent}-01-more"),
        format!("ff-{trace}-{parent}-01"),
        format!("00-{none}-{parent}-01"),
        format!("00-{trace}-{}-01", &none[..16]),
        format!("00-{}-{parent}-01", trace.to_uppercase()),
        format!("00-{trace}-{parent}-0 result=ok"),
    ] {
        assert_eq!(of(&bad), None, "{bad}");
    }
}
