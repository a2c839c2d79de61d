use serde_json::{Value, json};

use super::*;
use crate::error::code;

fn stated(conf: &Value) -> Result<ValidAttachments, CniError> {
    ValidAttachments::stated_in(&Object::root(conf).unwrap())
}

fn key(container: &str) -> AttachmentKey {
    AttachmentKey { container: container.parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

fn listed(containers: &[&str]) -> ValidAttachments {
    ValidAttachments::Listed(containers.iter().map(|c| key(c)).collect())
}

#[test]
fn either_key_lists_what_must_stay() {
    for name in ["cni.dev/valid-attachments", "cni.dev/attachments", "CNI.dev/Valid-Attachments"] {
        let conf = json!({ name: [{ "containerID": "a", "ifname": "eth0" }, { "ContainerID": "b", "IfName": "eth0" }] });
        assert_eq!(stated(&conf).unwrap(), listed(&["a", "b"]), "{name}");
    }
}

#[test]
fn both_keys_together_protect_what_either_lists() {
    let conf = json!({
        "cni.dev/valid-attachments": [{ "containerID": "a", "ifname": "eth0" }],
        "cni.dev/attachments": [{ "containerID": "b", "ifname": "eth0" }]
    });
    assert_eq!(stated(&conf).unwrap(), listed(&["a", "b"]));
}

#[test]
fn null_and_an_empty_list_say_that_nothing_is_valid() {
    for empty in [json!(null), json!([])] {
        assert_eq!(stated(&json!({ "cni.dev/valid-attachments": empty })).unwrap(), listed(&[]));
    }
}

#[test]
fn an_absent_key_says_nothing() {
    assert_eq!(stated(&json!({ "name": "x" })).unwrap(), ValidAttachments::Unstated);
}

#[test]
fn long_ids_are_listed_as_they_are_recorded() {
    let long = "c".repeat(300);
    let conf = json!({ "cni.dev/valid-attachments": [{ "containerID": long, "ifname": "eth0" }] });
    let ValidAttachments::Listed(keys) = stated(&conf).unwrap() else { panic!("nothing was listed") };
    assert!(keys.contains(&key(&long).recorded()));
}

#[test]
fn a_malformed_entry_is_refused_rather_than_passed_over() {
    for bad in
        [json!("x"), json!({}), json!([{}]), json!([null]), json!([{ "containerID": "../x", "ifname": "e" }])]
    {
        let conf = json!({ "cni.dev/valid-attachments": bad });
        assert_eq!(stated(&conf).unwrap_err().code(), code::CONFIG, "{conf}");
    }
}
