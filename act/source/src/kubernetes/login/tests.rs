use selvedge_model::chain;

use super::*;

fn program(script: &str) -> User {
    User::Program(Box::new(Program {
        api_version: Some("client.authentication.k8s.io/v1".to_owned()),
        command: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("GIVEN".to_owned(), "t0ken".to_owned())],
        interactive: false,
        cluster: Some(json!({"server": "https://10.0.0.1"})),
    }))
}

/// The header by which a user's requests begin, and what the certificate says.
fn logged_in(user: &User) -> (Option<String>, Option<Identity>) {
    let (login, identity) = Login::of(user).unwrap();
    (login.map(|login| header_of(&login)), identity)
}

fn header_of(login: &Login) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(login.header()).unwrap().to_str().unwrap().to_owned()
}

fn refusal(user: &User) -> String {
    chain(&Login::of(user).map(drop).unwrap_err())
}

#[test]
fn a_password_and_a_token_are_headers() {
    let user = User::Basic { name: "anna".to_owned(), password: Secret("s3cret".to_owned()) };
    assert_eq!(logged_in(&user).0.as_deref(), Some("Basic YW5uYTpzM2NyZXQ="));
    assert!(!format!("{user:?}").contains("s3cret"));
    assert_eq!(logged_in(&User::Token(Secret("t0ken".to_owned()))).0.as_deref(), Some("Bearer t0ken"));
    assert!(logged_in(&User::Anonymous).0.is_none());
    assert!(refusal(&User::Token(Secret("a\nb".to_owned()))).contains("can't be sent"));
}

#[test]
fn a_program_is_told_what_is_asked_and_answers_with_a_token() {
    let asked = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false,"cluster":{"server":"https://10.0.0.1"}}}"#;
    let script = format!(
        "[ \"$KUBERNETES_EXEC_INFO\" = '{asked}' ] || {{ echo \"$KUBERNETES_EXEC_INFO\" >&2; exit 3; }}
         echo '{{\"status\": {{\"token\": \"'$GIVEN'\"}}}}'"
    );
    assert_eq!(logged_in(&program(&script)).0.as_deref(), Some("Bearer t0ken"));
    let yaml = "printf 'kind: ExecCredential\\nstatus:\\n  token: y4ml\\n'";
    assert_eq!(logged_in(&program(yaml)).0.as_deref(), Some("Bearer y4ml"));
}

#[test]
fn a_program_may_answer_with_a_certificate() {
    let answer = r#"echo '{"status": {"clientCertificateData": "c", "clientKeyData": "k"}}'"#;
    let (header, identity) = logged_in(&program(answer));
    let identity = identity.unwrap();
    assert_eq!((header, identity.certificate, identity.key.0), (None, b"c".to_vec(), b"k".to_vec()));
}

#[test]
fn a_program_is_asked_again_before_its_token_expires() {
    let file = std::env::temp_dir().join(format!("selvedge-source-{}-asked", std::process::id()));
    let script = |expires: &str| {
        format!(
            "echo >> {0}; echo '{{\"status\": {{\"token\": \"t'$(wc -l < {0})'\", \"expirationTimestamp\": \"{expires}\"}}}}'",
            file.display()
        )
    };
    let (soon, _) = Login::of(&program(&script("2020-01-01T00:00:00Z"))).unwrap();
    let soon = soon.unwrap();
    assert_eq!([header_of(&soon), header_of(&soon)], ["Bearer t2", "Bearer t3"]);
    let (late, _) = Login::of(&program(&script("2999-01-01T00:00:00Z"))).unwrap();
    let late = late.unwrap();
    assert_eq!([header_of(&late), header_of(&late)], ["Bearer t4", "Bearer t4"]);
    std::fs::remove_file(&file).unwrap();
    assert!(
        refusal(&program(r#"echo '{"status": {"expirationTimestamp": "soon"}}'"#))
            .contains("\"soon\" is no time")
    );
}

#[test]
fn a_program_that_fails_is_told_with_its_words() {
    assert_eq!(
        refusal(&program("echo no network >&2; exit 7")),
        "/bin/sh failed with exit status: 7: no network"
    );
    assert_eq!(refusal(&program("echo {}")), "the answer of /bin/sh can't be understood: it has no status");
    let why = refusal(&program("echo '['"));
    assert!(why.starts_with("the answer of /bin/sh can't be understood: "), "{why}");
    let User::Program(mut missing) = program("") else { panic!("no program") };
    missing.command = "/nonexistent/login".into();
    assert!(refusal(&User::Program(missing)).starts_with("/nonexistent/login can't be run: No such file"));
}
