use serde_json::json;

use super::*;

fn read(text: &str) -> Vec<Result<Rc<Node>, String>> {
    documents(text.as_bytes(), &["unread"])
        .map(|document| document.map_err(|fault| fault.to_string()))
        .collect()
}

fn value(text: &str) -> Value {
    let [Ok(node)] = &read(text)[..] else { panic!("{text:?} is no single document: {:?}", read(text)) };
    node.value.clone()
}

#[test]
fn scalars_have_the_types_of_the_core_schema() {
    let text = |text: &str| Value::Text(text.to_owned());
    let number = |text: &str| Value::Number(text.to_owned());
    for (written, expected) in [
        ("~", Value::Null),
        ("null", Value::Null),
        ("True", Value::Bool(true)),
        ("yes", text("yes")),
        ("'true'", text("true")),
        ("!!str 5", text("5")),
        ("-17", number("-17")),
        ("1.30", number("1.30")),
        ("0x1F", number("0x1F")),
        (".inf", number(".inf")),
        ("inf", text("inf")),
        ("10.244.0.1", text("10.244.0.1")),
        ("fd00::1", text("fd00::1")),
        ("2026-11-21", text("2026-11-21")),
        ("-", Value::List(vec![Rc::new(Node { at: Position { line: 1, column: 2 }, value: Value::Null })])),
    ] {
        assert_eq!(value(written), expected, "{written}");
    }
}

#[test]
fn a_broken_document_is_a_fault_in_its_place_and_the_next_is_read() {
    let documents = read("a: 1\n---\nb: [1\n---\nc: 3\n---\n'd\n");
    let good: Vec<bool> = documents.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true, false]);
}

#[test]
fn faults_of_syntax_name_line_and_column() {
    for (text, expected) in [
        ("a: [1\nb: 2\n", "2:2: illegal placement of ':' indicator"),
        ("a:\n\t- b\n", "2:2: tabs disallowed within this context (block indentation)"),
        ("a: *x\n", "1:4: while parsing node, found unknown anchor"),
        ("é: b: c\n", "1:5: mapping values are not allowed in this context"),
    ] {
        assert_eq!(read(text)[0].clone().unwrap_err(), expected);
    }
}

#[test]
fn an_alias_is_its_anchor() {
    let Value::Map(entries) = value("a: &x [1]\nb: *x\n") else { panic!("no mapping") };
    assert!(Rc::ptr_eq(&entries["a"].node, &entries["b"].node));
}

#[test]
fn aliases_of_aliases_take_no_more_room_than_they_are_written_with() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..60 {
        let last = i - 1;
        text.push_str(&format!("a{i}: &a{i} [*a{last}, *a{last}, *a{last}]\n"));
    }
    assert!(matches!(value(&text), Value::Map(entries) if entries.len() == 60));
}

#[test]
fn unread_collections_are_left_out_and_what_refers_into_them_is_not() {
    let Value::Map(entries) = value("unread: {a: &x [1]}\nb: {unread: text, c: *x}\n") else {
        panic!("no mapping")
    };
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["b", "unread"]);
    assert_eq!(entries["unread"].node.value, Value::Unread);
    let Value::Map(inner) = &entries["b"].node.value else { panic!("no mapping") };
    assert_eq!(inner.keys().collect::<Vec<_>>(), ["c", "unread"]);
    assert!(inner["c"].node.value.is_collection());
    assert!(read("unread: [\n")[0].is_err());
}

#[test]
fn deep_nesting_is_refused_rather_than_followed() {
    let fault = read(&"[".repeat(100_000))[0].clone().unwrap_err();
    assert!(fault.starts_with("1:"), "{fault}");
    let block: String = (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(read(&block)[0].is_err());
    let chain: String = (1..20_000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)).collect();
    let fault = read(&format!("a0: &a0 [x]\n{chain}"))[0].clone().unwrap_err();
    assert_eq!(fault, "513:13: aliases nest more than 512 levels deep");
}

#[test]
fn numbers_are_whole_and_fit_32_bits() {
    let [Ok(node)] = &read("{a: 1500, b: 1.5, c: -1, d: '5'}")[..] else { panic!("no document") };
    let root = Field::root(node);
    let number = |key: &str| root.require(key).and_then(|field| field.number()).map_err(|e| e.to_string());
    assert_eq!(number("a"), Ok(1500));
    assert_eq!(number("b"), Err("1:14: b: \"1.5\" is no whole number from 0 to 4294967295".to_owned()));
    assert!(number("c").is_err());
    assert_eq!(number("d"), Err("1:29: d: must be a number, but is text".to_owned()));
    assert_eq!(number("e"), Err("1:1: e: is missing".to_owned()));
}

#[test]
fn a_value_becomes_json_of_its_types_and_its_parts_are_found_again() {
    let text = "a: [x, '80', 80, -1, 0x50, 010, 1.5, true, ~]\nunread: [1]\nb/c: {d: {e: f}}\n";
    let [Ok(node)] = &read(text)[..] else { panic!("no document") };
    let root = Field::root(node);
    let list = json!(["x", "80", 80, -1, 80, 10.0, 1.5, true, null]);
    let expected = json!({"a": list, "unread": false, "b/c": {"d": {"e": "f"}}});
    assert_eq!(root.json(), Ok(expected));
    for (path, at) in [
        ("a", "1:4"),
        ("a[1]", "1:8"),
        ("a[9]", "1:4"),
        ("[\"b/c\"].d", "3:10"),
        ("[\"b/c\"].d.x", "3:10"),
        ("x", "1:1"),
    ] {
        assert_eq!(root.position_of(path).to_string(), at, "{path}");
    }
}

#[test]
fn aliases_do_not_make_a_flood_of_json() {
    let flood: String = (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect();
    let [Ok(node)] = &read(&format!("a0: &a0 [x]\n{flood}"))[..] else { panic!("no document") };
    let fault = Field::root(node).require("a39").unwrap().json().unwrap_err();
    assert_eq!(fault.what(), "a39: is too large, with all that its aliases stand for");
}
