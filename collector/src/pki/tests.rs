//! What the authority issues, and what it refuses to.

use common::ids::{HostId, PublicKey};
use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;
use crate::{layout::Layout, registry};

const NOW: WallNanos = WallNanos(1_800_000_000_000_000_000);

fn host() -> HostId {
    HostId::of_genesis_key(&PublicKey([7; 32]))
}

fn request_naming(names: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| SanType::URI((*name).try_into().unwrap()))
        .collect();
    // Asking to become an authority must not make one.
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

fn initialised() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("c"));
    let names = ["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    init(&layout, "ledger.example/one", &names, NOW).unwrap();
    (dir, layout)
}

#[test]
fn init_makes_keys_once() {
    let (_dir, layout) = initialised();
    let again = init(&layout, "ledger.example/one", &[], NOW);
    assert!(matches!(again, Err(PkiError::Exists(_))), "{again:?}");
    let secret = std::fs::read_to_string(layout.ledger_key()).unwrap();
    let public = std::fs::read_to_string(layout.ledger_verifier()).unwrap();
    let signer = common::note::SignerKey::parse(secret.trim()).unwrap();
    assert_eq!(signer.verifier().to_string(), public.trim());
    for secret in [layout.ca_key(), layout.server_key(), layout.ledger_key()] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", secret.display());
    }
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    for bad in ["", "a b", "a/b", "-", "host:1"] {
        assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
    }
}

#[test]
fn an_issued_certificate_names_the_host_and_is_no_authority() {
    let (_dir, layout) = initialised();
    let request = Request::parse(&request_naming(&[&host_uri(&host())])).unwrap();
    assert_eq!(request.host, host());
    let issued = Authority::open(&layout)
        .unwrap()
        .issue(&request, NOW, Duration::from_secs(60))
        .unwrap();
    let peer = PeerIdentity::of_certificate(&issued.der).unwrap();
    assert_eq!((peer.host, &peer.serial), (host(), &issued.serial));
    assert_eq!(peer.not_after, 1_800_000_060);
    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(!usage.key_cert_sign() && usage.digital_signature());
    let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
}

#[test]
fn requests_without_exactly_one_host_are_refused() {
    let identity = |names: &[&str]| match Request::parse(&request_naming(names)) {
        Err(BadRequest::Identity(fault)) => fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted {names:?}"),
    };
    assert_eq!(identity(&["https://example.org"]), BadIdentity::Names(0));
    let own = host_uri(&host());
    assert_eq!(identity(&[&own, &own]), BadIdentity::Names(2));
    assert!(matches!(identity(&["hostledger:host:12"]), BadIdentity::Id(_)));
}

#[test]
fn an_altered_request_proves_no_possession() {
    let pem = request_naming(&[&host_uri(&host())]);
    let mut lines: Vec<String> = pem.lines().map(String::from).collect();
    // The line before the last holds the signature's end.
    let signature = lines.iter_mut().rev().nth(1).unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    signature.replace_range(..1, other);
    assert_eq!(Request::parse(&lines.join("\n")).err(), Some(BadRequest::Proof));
    assert_eq!(Request::parse("garbage").err(), Some(BadRequest::Malformed));
}

#[test]
fn only_listed_certificates_of_registered_hosts_are_welcome() {
    let (_dir, layout) = initialised();
    let authority = Authority::open(&layout).unwrap();
    let request = Request::parse(&request_naming(&[&host_uri(&host())])).unwrap();
    let issue = || authority.issue(&request, NOW, Duration::from_secs(60)).unwrap();
    let (first, second) = (issue(), issue());
    let peer = |issued: &Issued| PeerIdentity::of_certificate(&issued.der).unwrap();
    let refused = registry::admit(&layout, &peer(&first));
    assert!(matches!(refused, Err(registry::NotWelcome::Unregistered(_))));
    registry::register(&layout, &first, Some("web-1"), "2027-01-15T08:00:00Z", "then").unwrap();
    assert_eq!(registry::admit(&layout, &peer(&first)).unwrap().name, "web-1");
    let refused = registry::admit(&layout, &peer(&second));
    assert!(matches!(refused, Err(registry::NotWelcome::Certificate { .. })));
    registry::register(&layout, &second, None, "2027-01-15T08:00:00Z", "then").unwrap();
    assert_eq!(registry::admit(&layout, &peer(&second)).unwrap().name, "web-1");
    assert_eq!(registry::list(&layout).unwrap().len(), 1);
}
