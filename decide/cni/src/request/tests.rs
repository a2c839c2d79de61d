use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::conf::{Attach, Ipam};

const ATTACHMENT: [(&str, &str); 3] =
    [("CNI_CONTAINERID", "c-1"), ("CNI_NETNS", "/var/run/netns/x"), ("CNI_IFNAME", "eth0")];

fn environment(verb: &str, more: &[(&str, &str)]) -> Environment {
    Environment::new(
        ATTACHMENT.iter().chain(&[("CNI_COMMAND", verb), ("CNI_PATH", "/opt/cni/bin")]).chain(more).copied(),
    )
}

fn parse(verb: &str, conf: &Value) -> Result<Request, CniError> {
    Request::parse(&environment(verb, &[]), conf.to_string().as_bytes())
}

fn conf(version: &str) -> Value {
    json!({ "cniVersion": version, "name": "mynet", "type": "selvedge", "subnet": "10.1.0.0/16" })
}

fn with(mut conf: Value, key: &str, value: Value) -> Value {
    conf[key] = value;
    conf
}

fn del(environment: &Environment, conf: &Value) -> Del {
    match Request::parse(environment, conf.to_string().as_bytes()) {
        Ok(Request::Del(del)) => *del,
        other => panic!("{other:?}"),
    }
}

mod io {
    use super::*;

    #[test]
    fn an_overlong_configuration_is_code_5() {
        let stdin = format!("{}{}", conf("1.0.0"), " ".repeat(MAX_STDIN));
        let error = Request::parse(&environment("ADD", &[]), stdin.as_bytes()).unwrap_err();
        assert_eq!(error.code(), code::IO);
    }

    #[test]
    fn version_does_without_stdin_and_attachment() {
        for (stdin, version) in [
            ("", Version::CURRENT),
            ("junk", Version::CURRENT),
            (r#"{"cniVersion":"0.4.0"}"#, Version::V0_4_0),
        ] {
            let podman = [
                ("CNI_COMMAND", "VERSION"),
                ("CNI_NETNS", "dummy"),
                ("CNI_IFNAME", "dummy"),
                ("CNI_PATH", "dummy"),
            ];
            let request = Request::parse(&Environment::new(podman), stdin.as_bytes());
            assert_eq!(request, Ok(Request::Version(version)));
        }
    }

    #[test]
    fn a_request_without_verb_is_code_4() {
        let error = Request::parse(&Environment::default(), b"{}").unwrap_err();
        assert_eq!((error.code(), error.message()), (4, "required env variables [CNI_COMMAND] missing"));
    }
}

mod order_of_checks {
    use super::*;

    /// Each row has one mistake less than the row before it.
    #[test]
    fn the_first_mistake_in_the_reference_implementations_order_is_told() {
        let rows = [
            ("CHECK", "", "../x", "{", 4, "required env variables [CNI_IFNAME] missing"),
            ("CHECK", "a/b", "../x", "{", 6, "network configuration on stdin"),
            ("CHECK", "a/b", "../x", r#"{"cniVersion":"9.0.0","mtu":1}"#, 7, "name is missing"),
            ("CHECK", "a/b", "../x", r#"{"cniVersion":"9.0.0","name":"n","mtu":1}"#, 4, "CNI_CONTAINERID"),
            ("CHECK", "a/b", "x", r#"{"cniVersion":"9.0.0","name":"n","mtu":1}"#, 4, "CNI_IFNAME"),
            ("CHECK", "a", "x", r#"{"cniVersion":"9.0.0","name":"n","mtu":1}"#, 1, "cniVersion \"9.0.0\""),
            (
                "CHECK",
                "a",
                "x",
                r#"{"cniVersion":"0.3.1","name":"n","mtu":1}"#,
                1,
                "config version does not allow CHECK",
            ),
            (
                "CHECK",
                "a",
                "x",
                r#"{"cniVersion":"0.4.0","name":"n","subnet":"10.1.0.0/16","mtu":1}"#,
                7,
                "mtu",
            ),
            (
                "CHECK",
                "a",
                "x",
                r#"{"cniVersion":"0.4.0","name":"n","subnet":"10.1.0.0/16"}"#,
                7,
                "prevResult is missing",
            ),
        ];
        for (verb, ifname, container, stdin, code, message) in rows {
            let environment = environment(verb, &[("CNI_IFNAME", ifname), ("CNI_CONTAINERID", container)]);
            let error = Request::parse(&environment, stdin.as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}

mod add {
    use super::*;

    #[test]
    fn a_request_has_what_the_runtime_said() {
        let more = [("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web-0"), ("CNI_NETNS_OVERRIDE", "1")];
        let request = Request::parse(&environment("ADD", &more), conf("0.3.1").to_string().as_bytes());
        let Ok(Request::Add(add)) = request else { panic!("{request:?}") };
        assert_eq!(add.attachment.to_string(), "c-1/eth0");
        assert_eq!(add.netns, Netns { path: "/var/run/netns/x".into(), may_be_ours: true });
        assert_eq!(add.args.pod_name.as_deref(), Some("web-0"));
        assert_eq!(add.prev_result, None);
    }

    #[test]
    fn malformed_arguments_are_code_4() {
        let environment = environment("ADD", &[("CNI_ARGS", "FOO")]);
        let error = Request::parse(&environment, conf("1.0.0").to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), code::ENVIRONMENT);
    }

    #[test]
    fn behind_a_plugin_that_made_the_interface_we_are_misplaced() {
        let prev =
            json!({ "interfaces": [{ "name": "veth1" }, { "name": "eth0", "sandbox": "/var/run/netns/x" }] });
        let error = parse("ADD", &with(conf("1.0.0"), "prevResult", prev)).unwrap_err();
        assert_eq!(error.code(), code::CONFIG);
        assert!(error.message().contains("put selvedge first"), "{error}");
    }

    #[test]
    fn behind_a_plugin_that_made_something_else_we_go_on() {
        let prev = json!({ "interfaces": [{ "name": "eth0" }, { "name": "net1", "sandbox": "/n" }] });
        let request = parse("ADD", &with(conf("1.0.0"), "prevResult", prev));
        let Ok(Request::Add(add)) = request else { panic!("{request:?}") };
        assert_eq!(add.prev_result.unwrap().result().interfaces.len(), 2);
    }
}

mod del {
    use super::*;

    #[test]
    fn the_namespace_and_the_arguments_may_be_missing_or_broken() {
        for more in
            [[("CNI_NETNS", ""), ("CNI_ARGS", "FOO")], [("CNI_NETNS", "/gone"), ("CNI_ARGS", "A=B=C")]]
        {
            let del = del(&environment("DEL", &more), &conf("0.3.1"));
            assert_eq!(del.netns.is_some(), !more[0].1.is_empty());
        }
    }

    #[test]
    fn a_configuration_broken_since_add_leaves_its_parts_out_and_says_which() {
        let broken = json!({
            "cniVersion": "0.3.1", "name": "mynet", "type": 5, "attach": "macvlan", "network": "x", "subnet": 5,
            "ipam": { "type": "../x", "ranges": 5 }, "mtu": -1, "ipMasq": "no", "runDir": "x", "agent": 5,
            "logFile": [], "dns": 5, "args": 5, "runtimeConfig": 5, "prevResult": 5, "capabilities": 5
        });
        let conf = del(&environment("DEL", &[]), &broken).conf;
        assert_eq!((conf.version, conf.name.as_str()), (Version::V0_3_1, "mynet"));
        assert_eq!(conf.run_dir.to_str(), Some("/run/selvedge"));
        assert!(conf.attach.is_none() && conf.network.is_empty() && conf.delegate.is_none());
        let doubted: Vec<_> =
            conf.doubts.iter().filter_map(|d| d.message().split([' ', ':']).next()).collect();
        assert_eq!(doubted, ["attach", "network", "ipam.type", "runDir", "agent", "logFile"]);
    }

    #[test]
    fn a_valid_configuration_leaves_no_doubt() {
        let conf =
            with(with(conf("1.0.0"), "agent", json!("/run/a")), "ipam", json!({ "type": "host-local" }));
        let conf = del(&environment("DEL", &[]), &conf).conf;
        assert!(conf.doubts.is_empty() && matches!(conf.attach, Some(Attach::Bridge { .. })));
        assert_eq!(
            conf.delegate.unwrap().candidates(),
            ["/opt/cni/bin/host-local".into()] as [std::path::PathBuf; 1]
        );
    }

    #[test]
    fn a_missing_path_does_not_keep_us_from_removing_our_own() {
        let conf = with(conf("1.0.0"), "ipam", json!({ "type": "host-local" }));
        let del = del(&environment("DEL", &[("CNI_PATH", "")]), &conf);
        assert!(del.conf.delegate.unwrap().candidates().is_empty());
    }

    #[test]
    fn ports_that_are_not_supported_yet_do_not_matter() {
        let ports = json!({ "portMappings": [{ "hostPort": 80, "containerPort": 80 }] });
        assert!(parse("DEL", &with(conf("1.0.0"), "runtimeConfig", ports)).is_ok());
    }

    #[test]
    fn without_name_or_version_there_is_no_telling_what_to_remove() {
        for (key, value, code) in
            [("name", json!(""), 7), ("name", json!("a/b"), 7), ("cniVersion", json!("9.0.0"), 1)]
        {
            assert_eq!(parse("DEL", &with(conf("1.0.0"), key, value)).unwrap_err().code(), code);
        }
    }

    #[test]
    fn ids_are_checked_before_they_touch_anything() {
        let environment = environment("DEL", &[("CNI_CONTAINERID", "../x")]);
        let error = Request::parse(&environment, conf("1.0.0").to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), code::ENVIRONMENT);
    }
}

mod check {
    use super::*;

    #[test]
    fn the_result_of_the_chain_is_needed_and_its_version_may_be_missing() {
        let prev = json!({ "ips": [{ "version": "4", "address": "10.1.0.5/16" }] });
        let request = parse("CHECK", &with(conf("0.4.0"), "prevResult", prev));
        let Ok(Request::Check(check)) = request else { panic!("{request:?}") };
        assert_eq!(check.prev_result.result().ips.len(), 1);
        assert_eq!(parse("CHECK", &conf("0.4.0")).unwrap_err().code(), code::CONFIG);
    }
}

mod gc_and_status {
    use super::*;

    #[test]
    fn both_are_code_1_below_1_1() {
        for (verb, version) in [("GC", "1.0.0"), ("STATUS", "0.4.0"), ("STATUS", "")] {
            let error = parse(verb, &conf(version)).unwrap_err();
            assert_eq!(error.code(), code::VERSION);
            assert!(error.message().starts_with(&format!("config version does not allow {verb}")), "{error}");
        }
    }

    #[test]
    fn gc_needs_the_path_and_no_attachment() {
        let stdin = with(conf("1.1.0"), "cni.dev/valid-attachments", json!(null)).to_string();
        let path = Environment::new([("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")]);
        let Ok(Request::Gc(gc)) = Request::parse(&path, stdin.as_bytes()) else { panic!("refused") };
        assert_eq!(gc.valid, ValidAttachments::Listed([].into()));
        let error = Request::parse(&Environment::new([("CNI_COMMAND", "GC")]), stdin.as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.message()), (4, "required env variables [CNI_PATH] missing"));
    }

    #[test]
    fn status_needs_nothing_but_the_configuration() {
        let bare = Environment::new([("CNI_COMMAND", "STATUS")]);
        let Ok(Request::Status(status)) = Request::parse(&bare, conf("1.1.0").to_string().as_bytes()) else {
            panic!("refused")
        };
        assert!(matches!(status.conf.ipam, Ipam::BuiltIn(_)));
        let delegated = with(conf("1.1.0"), "ipam", json!({ "type": "host-local" })).to_string();
        assert_eq!(Request::parse(&bare, delegated.as_bytes()).unwrap_err().code(), code::ENVIRONMENT);
    }
}

proptest! {
    #[test]
    fn no_environment_and_no_stdin_make_the_parser_panic(
        verb in prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "X"]),
        container in ".{0,9}", ifname in ".{0,9}", args in ".{0,20}", path in ".{0,9}",
        stdin in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let more = [("CNI_CONTAINERID", container.as_str()), ("CNI_IFNAME", &ifname), ("CNI_ARGS", &args), ("CNI_PATH", &path)];
        for stdin in [stdin, conf("1.1.0").to_string().into_bytes()] {
            if let Err(error) = Request::parse(&environment(verb, &more), &stdin) {
                prop_assert!(!error.message().contains(char::is_control));
            }
        }
    }
}
