use serde_json::json;

use super::*;

#[test]
fn the_answer_to_version_lists_every_version_oldest_first() {
    let expected = json!({
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    });
    assert_eq!(reply(Version::V0_4_0), expected);
}

#[test]
fn an_unsupported_version_is_code_1_with_the_supported_ones_as_details() {
    let error = "0.5.0".parse::<Version>().unwrap_err();
    assert_eq!(error.code(), code::VERSION);
    assert_eq!(error.message(), "cniVersion \"0.5.0\" is not supported");
    assert!(error.details().contains("0.4.0, 1.0.0"));
}

#[test]
fn every_version_reads_back_and_they_are_in_order() {
    for version in Version::ALL {
        assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
    }
    assert!(Version::ALL.is_sorted());
}

#[test]
fn verbs_are_allowed_from_the_version_that_brought_them() {
    let rows = [
        (Command::Check, Version::V0_4_0),
        (Command::Gc, Version::V1_1_0),
        (Command::Status, Version::V1_1_0),
    ];
    for (command, since) in rows {
        for version in Version::ALL {
            let allowed = version.allows(command);
            assert_eq!(allowed.is_ok(), version >= since, "{command} in {version}");
            if let Err(error) = allowed {
                assert_eq!(error.code(), code::VERSION);
                assert!(error.message().starts_with(&format!("config version does not allow {command}")));
            }
        }
    }
}

#[test]
fn an_answer_has_the_configurations_version_where_that_can_be_read() {
    let rows = [
        (r#"{"cniVersion":"0.3.1"}"#, Version::V0_3_1),
        (r#"{"CNIVERSION":"0.3.1"}"#, Version::V0_3_1),
        (r#"{"name":"x"}"#, Version::V0_1_0),
        (r#"{"cniVersion":""}"#, Version::V0_1_0),
        (r#"{"cniVersion":"9.9.9"}"#, Version::CURRENT),
        (r#"{"cniVersion":"0.3.1""#, Version::CURRENT),
        ("", Version::CURRENT),
    ];
    for (stdin, version) in rows {
        assert_eq!(Version::of_answer(stdin.as_bytes()), version, "{stdin}");
    }
}

#[test]
fn the_about_text_names_the_versions() {
    assert!(about().contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
}
