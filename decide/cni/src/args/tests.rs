use super::*;

#[test]
fn containerds_arguments_are_read_in_any_order() {
    let text = "K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c-1;\
                K8S_POD_NAMESPACE=shop";
    let args = CniArgs::parse(text).unwrap();
    assert_eq!(args.pod().unwrap().to_string(), "shop/web-0");
    assert_eq!(args.pod_uid.as_deref(), Some("u-1"));
    assert_eq!(args.pod_infra_container.as_deref(), Some("c-1"));
}

#[test]
fn podmans_arguments_name_no_namespace() {
    let args = CniArgs::parse("IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.88.0.9;MAC=0a:58:0a:58:00:09").unwrap();
    assert_eq!((args.pod(), args.pod_name.as_deref()), (None, Some("web")));
    assert_eq!(args.requested.ips, ["10.88.0.9".parse().unwrap()]);
    assert_eq!(args.requested.mac.unwrap().to_string(), "0a:58:0a:58:00:09");
}

#[test]
fn several_addresses_may_be_asked_for() {
    let args = CniArgs::parse("IP=10.0.0.5/24,fd00::5").unwrap();
    let texts: Vec<_> = args.requested.ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.5/24", "fd00::5"]);
}

#[test]
fn no_arguments_are_fine() {
    assert_eq!(CniArgs::parse("").unwrap(), CniArgs::default());
    assert_eq!(CniArgs::parse("IP=;MAC=;K8S_POD_NAME=").unwrap(), CniArgs::default());
}

#[test]
fn an_unknown_key_needs_ignore_unknown_wherever_that_stands() {
    for text in ["FOO=1;IgnoreUnknown=1", "IgnoreUnknown=true;FOO=1", "IgnoreUnknown=True;foo=1;ip=x"] {
        assert!(CniArgs::parse(text).is_ok(), "{text} was refused");
    }
    for text in ["FOO=1", "FOO=1;IgnoreUnknown=0", "IgnoreUnknown=false;K8S_POD_NAME=x;FOO=1"] {
        let error = CniArgs::parse(text).unwrap_err();
        assert_eq!(error.code(), code::ENVIRONMENT);
        assert!(error.message().contains("\"FOO\""), "{error}");
    }
}

#[test]
fn malformed_arguments_are_code_4_and_shown() {
    let rows = [
        ("FOO", "\"FOO\""),
        ("A=B=C;IgnoreUnknown=1", "\"A=B=C\""),
        ("IgnoreUnknown=1;", "\"\""),
        ("IgnoreUnknown=2", "\"2\""),
        ("IP=10.0.0.300", "\"10.0.0.300\""),
        ("IP=10.0.0.3/33", "\"10.0.0.3/33\""),
        ("MAC=01:00:5e:00:00:01", "\"01:00:5e:00:00:01\""),
    ];
    for (text, shown) in rows {
        let error = CniArgs::parse(text).unwrap_err();
        assert_eq!(error.code(), code::ENVIRONMENT, "{text}");
        assert!(error.message().starts_with("CNI_ARGS: ") && error.message().contains(shown), "{error}");
    }
}

#[test]
fn an_address_is_asked_for_once() {
    let args = CniArgs::parse("IP=10.0.0.5/24,10.0.0.5").unwrap();
    assert_eq!(args.requested.ips.len(), 1);
}
