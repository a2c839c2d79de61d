use serde_json::json;

use super::*;

fn ask(name: &str, config: &[(&str, &str)]) -> Result<(String, bool), String> {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let token = Provider { name: name.to_owned(), config: Secret(config) }.ask();
    token.map(|token| (token.token.0, token.expires.is_some())).map_err(|why| why.to_string())
}

#[test]
fn a_token_that_is_there_is_taken() {
    assert_eq!(ask("oidc", &[("id-token", "mine")]), Ok(("mine".to_owned(), false)));
    assert_eq!(ask("gcp", &[("id-token", "mine")]), Ok(("mine".to_owned(), false)));
    let valid = [("access-token", "kept"), ("expiry", "2999-01-01T00:00:00Z")];
    assert_eq!(ask("gcp", &valid), Ok(("kept".to_owned(), true)));
    assert_eq!(ask("oidc", &[]).unwrap_err(), "auth-provider oidc has no id-token");
    assert_eq!(ask("gcp", &[]).unwrap_err(), "auth-provider gcp has no token and no cmd-path");
    assert_eq!(ask("other", &[]).unwrap_err(), "auth-provider other is not supported");
}

#[test]
fn what_a_program_says_is_looked_for_where_the_keys_say() {
    let file = std::env::temp_dir().join(format!("selvedge-source-{}-provider", std::process::id()));
    let said = json!({"credential": {"access_token": "fresh", "token_expiry": "2999-01-01T00:00:00Z"}});
    std::fs::write(&file, said.to_string()).unwrap();
    let old = [("access-token", "old"), ("expiry", "2020-01-01T00:00:00Z"), ("cmd-path", "cat")];
    let keys = [("cmd-args", file.to_str().unwrap()), ("token-key", "{.credential.access_token}")];
    let all = [&old[..], &keys[..], &[("expiry-key", "{.credential.token_expiry}")]].concat();
    assert_eq!(ask("gcp", &all), Ok(("fresh".to_owned(), true)));
    let elsewhere = [&old[..], &keys[..1], &[("token-key", "{.token}")]].concat();
    assert_eq!(
        ask("gcp", &elsewhere).unwrap_err(),
        "the answer of cat can't be understood: it has no text at {.token}"
    );
    assert_eq!(ask("gcp", &[&old[..], &keys[..1]].concat()), Ok((said.to_string(), false)));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_path_goes_by_names_and_numbers() {
    let value = json!({"a": [{"b.c": 1}, {"d": "x"}]});
    for path in ["{.a[1].d}", "a[1].d", "$.a[1]['d']", "\"{.a[1].d}\""] {
        assert_eq!(at(&value, path), Some(&json!("x")), "{path}");
    }
    assert_eq!((at(&value, "{.a.d}"), at(&value, "{.a[7].d}"), at(&value, "{.x}")), (None, None, None));
}
