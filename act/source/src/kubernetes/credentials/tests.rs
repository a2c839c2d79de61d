use std::env;
use std::process::Command;

use selvedge_model::chain;
use serde_json::{Value, json};

use super::*;

/// A kubeconfig in a folder of its own, gone in the end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, cluster: &Value, user: &Value) -> Self {
        let folder = env::temp_dir().join(format!("selvedge-source-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": user}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(folder.join("kubeconfig"), config.to_string()).unwrap();
        Self(folder)
    }

    fn credentials(&self) -> Credentials {
        read(&Reach::Kubeconfig(self.0.join("kubeconfig")))
    }

    fn read(&self) -> Result<Access, ReachError> {
        self.credentials().access
    }

    fn token(&self) -> String {
        match self.read().unwrap().user {
            User::Token(token) => token.0,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn server() -> Value {
    json!({"server": "https://127.0.0.1:6443"})
}

#[test]
fn a_token_file_with_a_lines_end_is_a_token() {
    let written = Written::new("token", &server(), &json!({"tokenFile": "token"}));
    assert!(matches!(written.read(), Err(ReachError::File { what: "token", .. })), "there is none yet");
    fs::write(written.0.join("token"), "t0ken\r\n").unwrap();
    assert_eq!(written.token(), "t0ken");
}

#[test]
fn of_a_token_and_its_file_the_file_is_taken_once_it_says_one() {
    let written = Written::new("both", &server(), &json!({"token": "0ld", "tokenFile": "token"}));
    assert_eq!(written.token(), "0ld", "there is no file yet");
    for (text, token) in [("\n", "0ld"), ("n3w\n", "n3w")] {
        let files = written.credentials().files;
        fs::write(written.0.join("token"), text).unwrap();
        assert!(files.have_changed());
        assert_eq!(written.token(), token);
    }
}

#[test]
fn every_file_that_credentials_are_made_of_is_looked_at_again() {
    let named = ["ca.crt", "client.crt", "client.key", "token"];
    let mut cluster = server();
    cluster["certificate-authority"] = named[0].into();
    let user = json!({"client-certificate": named[1], "client-key": named[2], "tokenFile": named[3]});
    let written = Written::new("files", &cluster, &user);
    named.iter().for_each(|name| fs::write(written.0.join(name), "").unwrap());
    for name in named.iter().chain(&["kubeconfig"]) {
        let files = written.credentials().files;
        assert!(!files.have_changed());
        // As a kubelet does it: another file takes its place.
        let (path, next) = (written.0.join(name), written.0.join("next"));
        fs::copy(&path, &next).unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(files.have_changed(), "{name}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_once() {
    let mut cluster = server();
    cluster["certificate-authority"] = "ca.crt".into();
    let written = Written::new("missing", &cluster, &json!({"token": "t0ken"}));
    let told = |written: &Written| chain(&written.read().unwrap_err());
    let (authority, config) = (written.0.join("ca.crt"), written.0.join("kubeconfig"));
    let words = format!("the certificate authority {} can't be read: No such file", authority.display());
    assert!(told(&written).starts_with(&words), "{}", told(&written));
    fs::remove_file(&config).unwrap();
    let words = format!("the kubeconfig {} can't be read: No such file", config.display());
    assert!(told(&written).starts_with(&words), "{}", told(&written));
}

#[test]
fn a_proxy_is_the_kubeconfigs_and_never_the_environments() {
    let proxy = "http://proxy.invalid:3128";
    if env::var("HTTPS_PROXY").as_deref() != Ok(proxy) {
        let name = "kubernetes::credentials::tests::a_proxy_is_the_kubeconfigs_and_never_the_environments";
        let mut again = Command::new(env::current_exe().unwrap());
        let again = again.args(["--exact", name]).env("HTTPS_PROXY", proxy).output().unwrap();
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let written = Written::new("none", &server(), &json!({"token": "t0ken"}));
    written.read().unwrap();
    let mut cluster = server();
    cluster["proxy-url"] = "http://other.invalid:3128".into();
    let written = Written::new("one", &cluster, &json!({"token": "t0ken"}));
    let told = chain(&written.read().unwrap_err());
    let words = "clusters[0].cluster.proxy-url: \"http://other.invalid:3128\" is a proxy";
    assert!(told.contains(words), "{told}");
}
