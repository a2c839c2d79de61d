use selvedge_model::chain;

use super::*;
use crate::kubernetes::access::Secret;

fn refusal(trust: &Trust, identity: Option<&Identity>) -> String {
    chain(&config(trust, identity).unwrap_err())
}

#[test]
fn certificates_and_keys_that_are_none_are_named() {
    let own = rcgen::generate_simple_self_signed(["it".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem().into_bytes(), own.signing_key.serialize_pem().into_bytes());
    let trust = Trust::Authorities(certificates("certificate authority", &certificate).unwrap());
    let identity = |certificate: &[u8], key: &[u8]| Identity {
        certificate: certificate.to_vec(),
        key: Secret(key.to_vec()),
    };
    let good = identity(&certificate, &key);
    for trust in [&trust, &Trust::Anybody] {
        assert!(config(trust, Some(&good)).unwrap().client_auth_cert_resolver.has_certs());
        assert!(!config(trust, None).unwrap().client_auth_cert_resolver.has_certs());
    }
    // One file may hold both.
    let both = [&key[..], &certificate[..]].concat();
    assert!(config(&trust, Some(&identity(&both, &both))).is_ok());
    let why = refusal(&trust, Some(&identity(&key, &key)));
    assert_eq!(why, "there is no certificate in the client certificate");
    let why = refusal(&trust, Some(&identity(&certificate, &certificate)));
    assert!(why.starts_with("the client key can't be read: "), "{why}");
    let other = rcgen::generate_simple_self_signed(["it".to_owned()]).unwrap().signing_key.serialize_pem();
    let why = refusal(&trust, Some(&identity(&certificate, other.as_bytes())));
    assert!(why.starts_with("the client key can't be used: "), "{why}");
    let why = refusal(&Trust::Authorities(vec![CertificateDer::from(vec![0; 7])]), None);
    assert!(why.starts_with("the certificate authority can't be used: "), "{why}");
    let broken =
        certificates("certificate authority", b"-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n");
    assert!(chain(&broken.unwrap_err()).starts_with("the certificate authority can't be read: "));
}

#[test]
fn a_servers_name_is_a_name_or_an_address() {
    assert!(server_name("kubernetes.default").is_ok() && server_name("10.0.0.1").is_ok());
    assert!(server_name("a b").unwrap_err().to_string().contains("\"a b\""));
}
