//! Who is who in the cluster: certificates by openssl, and kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::kubernetes::folder::run;

/// The one whom all of the cluster's programs trust.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, whose files are in that folder.
    ///
    /// # Panics
    /// If openssl can't make it.
    pub fn found(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let authority = Self { folder };
        let Identity { certificate, key } = authority.files("ca");
        run(openssl(&certificate, &key, "/CN=selvedge-tests")
            .args(["-addext", "keyUsage=critical,keyCertSign"]));
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.files("ca").certificate
    }

    /// A certificate for somebody: `/O=GROUP/CN=USER`, and by which names it is a server (`DNS:…,IP:…`), if it is one.
    ///
    /// # Panics
    /// If openssl can't make it.
    pub fn issue(&self, file: &str, subject: &str, names: &str) -> Identity {
        let (ca, issued) = (self.files("ca"), self.files(file));
        let mut command = openssl(&issued.certificate, &issued.key, subject);
        command.arg("-CA").arg(ca.certificate).arg("-CAkey").arg(ca.key);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.args(["-addext", "extendedKeyUsage=clientAuth,serverAuth"]);
        if !names.is_empty() {
            command.args(["-addext", &format!("subjectAltName={names}")]);
        }
        run(&mut command);
        issued
    }

    /// A key for signing tokens.
    ///
    /// # Panics
    /// If openssl can't make it.
    pub fn signer(&self) -> PathBuf {
        let key = self.tokens();
        let options = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
        run(Command::new("openssl").args(options).arg(&key));
        key
    }

    /// A kubeconfig with a certificate of its own.
    pub fn kubeconfig(&self, file: &str, subject: &str, server: &str) -> PathBuf {
        let Identity { certificate, key } = self.issue(file, subject, "");
        self.written(file, server, &json!({"client-certificate": certificate, "client-key": key}))
    }

    /// A kubeconfig of these credentials.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn written(&self, file: &str, server: &str, user: &serde_json::Value) -> PathBuf {
        let path = self.folder.join(format!("{file}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority": self.certificate()}}],
            "users": [{"name": "it", "user": user}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Where that key is.
    pub fn tokens(&self) -> PathBuf {
        self.folder.join("tokens.key")
    }

    fn files(&self, name: &str) -> Identity {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        Identity { certificate: file("crt"), key: file("key") }
    }
}

fn openssl(certificate: &Path, key: &Path, subject: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    command.arg("-out").arg(certificate).arg("-keyout").arg(key).args(["-subj", subject]);
    command
}
