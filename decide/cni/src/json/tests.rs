use serde_json::json;

use super::*;

fn object(value: &Value) -> Object<'_> {
    Object::root(value).unwrap()
}

#[test]
fn keys_match_in_any_case_and_the_exact_one_wins() {
    let value = json!({ "HostPort": 1, "hostPort": 2, "HOSTPORT": 3 });
    assert_eq!(object(&value).whole("hostPort").unwrap(), Some(2));
    let value = json!({ "HostPort": 1, "HOSTPORT": 3 });
    assert_eq!(object(&value).whole("hostPort").unwrap(), Some(3));
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    let value: Value = serde_json::from_str(r#"{"mtu":1,"mtu":2}"#).unwrap();
    assert_eq!(object(&value).whole("mtu").unwrap(), Some(2));
}

#[test]
fn null_is_absent_and_hides_no_other_spelling() {
    let value = json!({ "mtu": null, "MTU": 5, "name": null });
    assert_eq!(object(&value).whole("mtu").unwrap(), Some(5));
    assert_eq!(object(&value).text("name").unwrap(), None);
    assert!(object(&value).states("name") && !object(&value).states("type"));
}

#[test]
fn whole_floats_are_integers() {
    let value: Value =
        serde_json::from_str(r#"{"a":8080.0,"b":1e4,"c":1.5,"d":-1,"e":1e300,"f":"1"}"#).unwrap();
    let object = object(&value);
    assert_eq!(object.whole("a").unwrap(), Some(8080));
    assert_eq!(object.whole("b").unwrap(), Some(10_000));
    for key in ["c", "d", "e", "f"] {
        assert!(object.whole(key).is_err(), "{key} was taken for a whole number");
    }
}

#[test]
fn an_error_names_the_path_and_shows_the_value() {
    let value = json!({ "ipam": { "ranges": [[{ "Subnet": "10.0.0.1/99" }]] } });
    let ranges = object(&value).object("ipam").unwrap().unwrap().list("ranges").unwrap();
    let range = ranges[0].list().unwrap()[0].object().unwrap();
    let error = range.need("subnet").unwrap().cidr().unwrap_err();
    assert_eq!(error.code(), code::CONFIG);
    assert!(error.message().starts_with("ipam.ranges[0][0].subnet \"10.0.0.1/99\": "), "{error}");
    assert_eq!(range.need("gateway").unwrap_err().message(), "ipam.ranges[0][0].gateway is missing");
}

#[test]
fn a_long_value_is_shown_in_part_and_on_one_line() {
    let value = json!({ "mtu": "ä\n".repeat(1000) });
    let error = object(&value).whole("mtu").unwrap_err();
    assert!(error.message().chars().count() < 200 && !error.message().contains('\n'));
}

#[test]
fn a_single_value_stands_for_a_list_of_one() {
    let value = json!({ "a": "x", "b": ["x", "y"], "c": "" });
    let count = |key| object(&value).one_or_more(key).unwrap().len();
    assert_eq!((count("a"), count("b"), count("c"), count("d")), (1, 2, 0, 0));
}

#[test]
fn a_network_has_no_host_bits() {
    let value = json!({ "a": "10.0.0.0/24", "b": "10.0.0.1/24" });
    assert!(object(&value).need("a").unwrap().network().is_ok());
    let error = object(&value).need("b").unwrap().network().unwrap_err();
    assert!(error.message().ends_with("has host bits set; the network is 10.0.0.0/24"), "{error}");
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_ipv4() {
    let value = json!({ "a": "::ffff:10.0.0.1" });
    assert_eq!(object(&value).ip("a").unwrap(), Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn paths_are_absolute() {
    let value = json!({ "a": "/run/x", "b": "run/x", "c": "", "d": "/x\0" });
    let object = object(&value);
    assert_eq!(object.path("a").unwrap(), Some(PathBuf::from("/run/x")));
    assert_eq!(object.path("c").unwrap(), None);
    assert!(object.path("b").is_err() && object.path("d").is_err());
}
