//! An agent's directory with every file it can have, made by the agent's own code where there is such.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::{
    batch::KeyHead,
    checkpoint::Checkpoint,
    ids::{BootId, BootNanos, Hash, HostId, Sequence},
    keyring::EpochBegan,
    ledger_keys::LedgerKeys,
    merkle::{consistency_proof, leaf_hash, root_of},
    note::SignerKey,
    session::{AgentConfig, AgentSession, Message, Receipts, Seen},
    spool::LedgerMark,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
};

use super::super::{evidence, remembered};
use crate::{
    config::Layout,
    files::{Finding, examine},
    identity::{Identity, host_uri},
};

/// An agent's directory, and what an older copy of each file would be.
pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) layout: Layout,
    pub(super) host: HostId,
    pub(super) mark: LedgerMark,
    /// Where the chain stands: behind the keys in force.
    pub(super) chain: KeyHead,
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    pub(super) older: BTreeMap<PathBuf, Vec<u8>>,
}

pub(super) fn signer(seed: u8) -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[seed; 32]).unwrap()
}

fn leaves(word: u8, count: u8) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&[word, number])).collect()
}

fn note(leaves: &[Hash]) -> Vec<u8> {
    let head = Checkpoint {
        origin: "ledger.example/one".into(),
        size: leaves.len() as u64,
        root: root_of(leaves),
        extensions: Vec::new(),
    };
    head.sign(&signer(2)).unwrap().into_bytes()
}

/// An authority, and a certificate of it for the key in `layout`.
fn certificates(layout: &Layout, host: &HostId, serials: [u64; 2]) -> (String, [String; 2]) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(layout.tls_key()).unwrap()).unwrap();
    let leaf = |serial: u64| {
        let mut leaf = rcgen::CertificateParams::new(Vec::new()).unwrap();
        leaf.subject_alt_names = vec![rcgen::SanType::URI(host_uri(host).try_into().unwrap())];
        leaf.serial_number = Some(serial.into());
        leaf.signed_by(&key, &issuer).unwrap().pem()
    };
    (own, serials.map(leaf))
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().join("agent"),
        };
        let other = Layout {
            dir: dir.path().join("other"),
        };
        let mut identity = Identity::create(&layout, "n").unwrap();
        let other_host = Identity::create(&other, "o").unwrap().host();
        let host = identity.host();
        let mut older = BTreeMap::new();
        for epoch in 1..=2 {
            older.insert(layout.signing_keys(), fs::read(layout.signing_keys()).unwrap());
            let began = EpochBegan {
                sequence: Sequence(epoch),
                boot: BootId([1; 16]),
                at: BootNanos(epoch),
            };
            identity.keyring = identity.store.ratchet(identity.keyring.held(), began).unwrap();
        }
        let held = identity.keyring.held();
        let chain = KeyHead {
            epoch: held.epoch,
            key: Some(held.key),
            announced: Some(held.next),
        };
        let (ca, [first, second]) = certificates(&layout, &host, [1, 2]);
        let (other_ca, _) = certificates(&other, &other_host, [1, 2]);
        fs::write(layout.ca_certificate(), ca).unwrap();
        fs::write(layout.tls_certificate(), second).unwrap();
        older.insert(layout.ca_certificate(), other_ca.into());
        older.insert(layout.tls_certificate(), first.into());
        older.insert(layout.tls_key(), fs::read(other.tls_key()).unwrap());
        older.insert(layout.csr(), fs::read(other.csr()).unwrap());

        let vkey = |seed| format!("{}\n", signer(seed).verifier());
        fs::write(layout.ledger_key(), vkey(1)).unwrap();
        older.insert(layout.ledger_key(), vkey(7).into());
        let offline = SignerKey::from_seed("ledger.example/offline", &[9; 32]).unwrap();
        let begun = LedgerKeys::genesis(&signer(1), &offline).unwrap();
        let seen = leaves(1, 9);
        let keys = begun
            .rotate(&signer(1), &signer(2), &offline, 3, root_of(&seen[..3]))
            .unwrap();
        fs::write(layout.ledger_keys(), begun.encode()).unwrap();
        fs::write(layout.learnt_keys(), keys.encode()).unwrap();
        older.insert(layout.learnt_keys(), begun.encode());
        fs::write(layout.checkpoint(), note(&seen)).unwrap();
        older.insert(layout.checkpoint(), note(&seen[..5]));
        let mark = mark(&keys, &note(&seen));

        let fork = leaves(2, 12);
        let message = |proven: usize| {
            let receipts = Receipts {
                checkpoint: note(&fork[..proven]),
                consistency: consistency_proof(&fork[..proven], 9, proven).unwrap(),
                proven: Vec::new(),
            };
            Message::Receipts(receipts).encode().unwrap()
        };
        let first = evidence::keep(&layout, "it forked", &note(&seen), &message(12)).unwrap();
        let second = evidence::keep(&layout, "it forked again", &note(&seen), &message(11)).unwrap();
        for role in ["txt", "remembered", "offered", "split-view", "message"] {
            older.insert(
                first.with_extension(role),
                fs::read(second.with_extension(role)).unwrap(),
            );
        }
        let mut paths = vec![
            layout.signing_keys(),
            layout.tls_key(),
            layout.csr(),
            layout.tls_certificate(),
            layout.ca_certificate(),
            layout.ledger_key(),
            layout.learnt_keys(),
            layout.ledger_keys(),
            layout.checkpoint(),
        ];
        paths.extend(
            ["txt", "remembered", "offered", "split-view", "message"].map(|role| first.with_extension(role)),
        );
        let files = paths.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        });
        Self {
            files: files.collect(),
            _dir: dir,
            layout,
            host,
            mark,
            chain,
            older,
        }
    }

    pub(super) fn examine(&self) -> Vec<Finding> {
        examine(&self.layout, &self.host, Some(&self.mark))
    }

    /// Why nobody could tell, and nothing follows from, what became of a file; `None` where somebody should have.
    pub(super) fn harmless(
        &self,
        path: &Path,
        good: &[u8],
        bad: Option<&[u8]>,
        chain: &KeyHead,
    ) -> Option<&'static str> {
        let layout = &self.layout;
        if path == layout.signing_keys() {
            // Its keys are those the chain stands under, and announce what the keys in force are: the epoch begins anew.
            let (record, _) = common::keyring::read_key_file(bad?).unwrap();
            let before = record.held().epoch.0 + 1 == self.chain.epoch.0 && record.held().fits(chain).is_ok();
            return before.then_some(
                "older keys, and nothing sealed under the newer ones: a replacement that was not",
            );
        }
        if path == layout.tls_certificate() && bad == self.older.get(path).map(Vec::as_slice) {
            return Some(
                "an earlier certificate of the same key, host and authority, in force: the collector decides",
            );
        }
        if path == layout.ledger_keys() {
            let keys = remembered::keys_of(layout).unwrap().encode();
            let whole = keys == fs::read(layout.learnt_keys()).unwrap();
            return whole.then_some("a shorter history from enrolment: state/ledger.keys holds all of it");
        }
        let (bad, text) = (bad?, |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).trim().to_owned()
        });
        if path == layout.ledger_key() {
            return (text(good) == text(bad)).then_some("white space around the ledger's key");
        }
        if path == layout.checkpoint() {
            let keys = remembered::keys_of(layout).unwrap();
            let [good, bad] = [good, bad].map(|note| Seen::remembered(note, &keys).unwrap());
            return ((good.size, good.root) == (bad.size, bad.root))
                .then_some("lines of a checkpoint that nobody reads");
        }
        let der = |bytes: &[u8]| -> Vec<Vec<u8>> {
            if path == layout.tls_key() {
                vec![
                    PrivateKeyDer::from_pem_slice(bytes)
                        .unwrap()
                        .secret_der()
                        .to_vec(),
                ]
            } else if path == layout.csr() {
                vec![
                    CertificateSigningRequestDer::from_pem_slice(bytes)
                        .unwrap()
                        .to_vec(),
                ]
            } else {
                let all = CertificateDer::pem_slice_iter(bytes);
                all.map(|one| one.unwrap().to_vec()).collect()
            }
        };
        if der(good) == der(bad) {
            return Some("another spelling of the same PEM");
        }
        // What was signed, byte for byte; the signature's frame alone has more than one spelling.
        let signed = |bytes: &[u8]| -> Vec<u8> {
            let der = der(bytes);
            if path == layout.tls_key() {
                let pair = rcgen::KeyPair::from_pem(str::from_utf8(bytes).unwrap()).unwrap();
                rcgen::PublicKeyData::subject_public_key_info(&pair)
            } else if path == layout.csr() {
                let (_, request) = X509CertificationRequest::from_der(&der[0]).unwrap();
                request.certification_request_info.raw.to_vec()
            } else {
                let (_, certificate) = X509Certificate::from_der(&der[0]).unwrap();
                certificate.tbs_certificate.as_ref().to_vec()
            }
        };
        let same = path.starts_with(&layout.dir) && signed(good) == signed(bad);
        same.then_some("another spelling of a signature, or of the same private key")
    }
}

/// What the spool's head has of these.
pub(super) fn mark(keys: &LedgerKeys, note: &[u8]) -> LedgerMark {
    let seen = Seen::remembered(note, keys).unwrap();
    AgentSession::new(AgentConfig::new("t", keys.clone()), seen, 0, BootNanos(0)).mark()
}
