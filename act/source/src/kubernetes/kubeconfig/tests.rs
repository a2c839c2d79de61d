use std::env;

use selvedge_model::chain;

use super::*;

/// Reads a text as a kubeconfig, beside which there are files.
fn read_beside(text: &[u8], files: &[(&str, &str)]) -> (PathBuf, Result<Access, ReachError>) {
    let name = std::thread::current().name().unwrap_or_default().rsplit("::").next().unwrap().to_owned();
    let folder = env::temp_dir().join(format!("selvedge-source-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    let file = folder.join("config");
    fs::write(&file, text).unwrap();
    let access = read(&file, drop);
    fs::remove_dir_all(&folder).unwrap();
    (folder, access)
}

fn access(text: &str) -> Access {
    read_beside(text.as_bytes(), &[]).1.unwrap()
}

/// What is wrong with a text, without the file's name.
fn fault(text: &str) -> String {
    match read_beside(text.as_bytes(), &[]).1 {
        Err(ReachError::Kubeconfig { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A kubeconfig of one context whose user is written as YAML in one line.
fn of_user(user: &str) -> String {
    format!(
        "current-context: it\n\
         contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n\
         clusters: [{{name: it, cluster: {{server: 'https://10.0.0.1:6443'}}}}]\n\
         users: [{{name: it, user: {user}}}]\n"
    )
}

const SEVERAL: &str = "
apiVersion: v1
kind: Config
preferences: {}
current-context: two
contexts:
- name: one
  context: {cluster: one, user: anna}
- name: two
  context:
    cluster: two
    user: 0815
    namespace: shop
clusters:
- name: one
  cluster: {server: 'https://one.example'}
- name: two
  cluster:
    server: https://two.example/k8s/clusters/c-1
    tls-server-name: kubernetes.default
    insecure-skip-tls-verify: true
users:
- name: anna
  user: {token: hers}
- name: 0815
  user: {username: bert, password: 1234}
";

#[test]
fn the_current_context_is_read_and_no_other() {
    let access = access(SEVERAL);
    assert_eq!(access.server, "https://two.example/k8s/clusters/c-1");
    assert_eq!(access.namespace, "shop");
    assert_eq!(access.server_name.as_deref(), Some("kubernetes.default"));
    assert!(matches!(access.trust, Trust::Anybody));
    assert_eq!(access.user, User::Basic { name: "bert".to_owned(), password: Secret("1234".to_owned()) });
    assert!(access.headers.is_empty() && access.identity.is_none());
}

#[test]
fn several_documents_are_one_in_which_the_first_has_the_last_word() {
    let text =
        format!("current-context: one\nusers: [{{name: anna, user: {{token: n3w}}}}]\n---\n---{SEVERAL}");
    let access = access(&text);
    assert_eq!((access.server.host(), &*access.namespace), (Some("one.example"), "default"));
    assert_eq!(access.user, User::Token(Secret("n3w".to_owned())));
    assert!(matches!(access.trust, Trust::System));
}

#[test]
fn a_text_in_another_encoding_is_read() {
    let marked = [b"\xef\xbb\xbf", SEVERAL.as_bytes()].concat();
    let little = [vec![0xff, 0xfe], SEVERAL.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let big = [vec![0xfe, 0xff], SEVERAL.encode_utf16().flat_map(u16::to_be_bytes).collect()].concat();
    for text in [marked, little, big] {
        assert_eq!(read_beside(&text, &[]).1.unwrap().namespace, "shop");
    }
    assert!(chain(&read_beside(b"\xff\xfe\x00\xd8", &[]).1.unwrap_err()).contains("can't be read"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    assert_eq!(fault(""), "1:1: current-context: is missing");
    let of = |from: &str, to: &str| fault(&SEVERAL.replacen(from, to, 1));
    assert_eq!(
        of("context: two", "context: three"),
        "5:18: current-context: \"three\" is no context of this file"
    );
    let words = "11:14: contexts[1].context.cluster: \"2\" is no cluster of this file";
    assert_eq!(of("cluster: two", "cluster: 2"), words);
    assert!(of("server: https://two.example/k8s/clusters/c-1", "{}").starts_with("20:5: while parsing"));
    let why = of("https://two.example/k8s/clusters/c-1", "'https://'");
    assert!(why.starts_with("19:13: clusters[1].cluster.server: "), "{why}");
    let why = fault(&of_user("{client-certificate-data: '%'}"));
    assert!(why.starts_with("4:52: users[0].user.client-certificate-data: no base64"), "{why}");
    for (one, other) in [("client-certificate", "client-key"), ("client-key", "client-certificate")] {
        let why = fault(&of_user(&format!("{{{one}-data: eA==}}")));
        assert_eq!(why, format!("4:26: users[0].user.{other}: is missing"));
    }
}

#[test]
fn files_are_relative_to_the_kubeconfigs() {
    let certificate = rcgen::generate_simple_self_signed(["it".to_owned()]).unwrap();
    let (pem, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let user = "{client-certificate: crt, client-key: key, exec: {command: bin/login}}";
    let text = of_user(user).replace("cluster: {", "cluster: {certificate-authority: ca, ");
    let files = [("crt", &*pem), ("key", &*key), ("ca", &*pem)];
    let (folder, access) = read_beside(text.as_bytes(), &files);
    let access = access.unwrap();
    let identity = access.identity.unwrap();
    assert_eq!((identity.certificate, identity.key.0), (pem.into_bytes(), key.into_bytes()));
    assert!(matches!(&access.trust, Trust::Authorities(these) if these[0] == *certificate.cert.der()));
    let User::Program(program) = access.user else { panic!("{:?}", access.user) };
    assert_eq!(Path::new(&program.command), folder.join("bin/login"));
    // What has no slash is looked for where programs are.
    let text =
        of_user("{exec: {command: login, args: [1, x], env: [{name: A, value: b}], interactiveMode: Never}}");
    let User::Program(program) = self::access(&text).user else { panic!("no program") };
    assert_eq!((&*program.args, program.interactive), (&["1".to_owned(), "x".to_owned()][..], false));
    assert_eq!((program.command, program.env), ("login".into(), vec![("A".to_owned(), "b".to_owned())]));
}

#[test]
fn what_says_nothing_counts_as_nothing() {
    let text = of_user("{token: '', client-certificate: '', username: ''}");
    assert_eq!(access(&text).user, User::Anonymous);
    assert_eq!(
        access(&text.replace("cluster: it, user: it", "cluster: it, user: nobody")).user,
        User::Anonymous
    );
}

#[test]
fn on_whose_behalf_is_told_in_headers() {
    let user = "{as: anna, as-uid: u1, as-groups: [a, b], as-user-extra: {'Sc ope': [x, y]}}";
    let headers = access(&of_user(user)).headers;
    let all =
        |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((all("impersonate-user"), all("impersonate-uid")), (vec!["anna"], vec!["u1"]));
    assert_eq!(all("impersonate-group"), ["a", "b"]);
    assert_eq!(all("impersonate-extra-sc%20ope"), ["x", "y"]);
    assert!(fault(&of_user("{as: \"a\\nb\"}")).contains("users[0].user.as: no header"));
}

#[test]
fn a_program_that_asks_for_the_cluster_is_told_of_it() {
    let user = "{exec: {command: login, provideClusterInfo: true}}";
    let extensions =
        format!("extensions: [{{name: {FOR_PROGRAMS}, extension: {{audience: [1, true, null]}}}}], ");
    let data =
        format!("certificate-authority-data: '{}', tls-server-name: it, {extensions}", BASE64.encode(b"pem"));
    let text = of_user(user).replace("cluster: {", &format!("cluster: {{{data}"));
    let User::Program(program) = access(&text).user else { panic!("no program") };
    let told = json!({"server": "https://10.0.0.1:6443/", "certificate-authority-data": "cGVt",
        "tls-server-name": "it", "config": {"audience": [1, true, null]}});
    assert_eq!(program.cluster, Some(told));
}
