//! Who this host is: the keys that sign its chain, and the key and certificate of its connection.
//!
//! Owns the making of an identity. Refuses to make one where a chain lies (it continues only under its own
//! keys), to overwrite a key and to use one that others can read. How keys are replaced: [`crate::keys`].

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::{
    ids::HostId,
    keyring::{KeyFileFault, KeyFileFinding, KeyRecord, Keyring, SecretBytes, Seed},
};

use crate::{
    clock::boot_now,
    config::Layout,
    keys::{KeyStore, erase_file, fresh_seed, open_private, scrub_stack},
    sensor::host::{BootIdError, boot_id},
};

/// The keys that sign headers, and where they lie.
#[derive(Debug)]
pub struct Identity {
    /// The keys in force.
    pub keyring: Keyring,
    /// Their file.
    pub store: KeyStore,
    /// What was not in order in it and has been put right.
    pub findings: Vec<KeyFileFinding>,
}

/// Why an identity could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operator asked for a key where one is.
    #[error("{0} exists: this directory already has an identity, and its chain continues only under it")]
    Exists(PathBuf),
    /// The operator has not made one yet.
    #[error("{0} is missing: make an identity with `hostledger-agent init` first")]
    Missing(PathBuf),
    /// Others could sign in this host's name.
    #[error("{path} is readable by others (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("{0} does not hold 32 bytes in hex: restore it; a new key would begin a new host")]
    Malformed(PathBuf),
    /// The key file gives no keys.
    #[error("{path}: {fault}. Restore the file; if it is lost, this host's chain ends here")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: KeyFileFault,
    },
    /// The keys are gone and the chain is not.
    #[error(
        "{keys} is missing, and {spool} holds a chain that continues only under the keys that were there: restore \
         the file. If it is lost the chain ends here: move the whole directory away, make a new identity with \
         `hostledger-agent init` and enrol it; it is another host to everybody"
    )]
    Lost {
        /// The key file.
        keys: PathBuf,
        /// The spool.
        spool: PathBuf,
    },
    /// The key file changed under a running agent.
    #[error("{0} does not hold the keys in force any more: somebody replaced it. Restore it and start again")]
    Replaced(PathBuf),
    /// No `/proc`.
    #[error(transparent)]
    Boot(#[from] BootIdError),
    /// The disk.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The system's randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// The certificate request could not be made: a fault of ours or of the name given.
    #[error("certificate request: {0}")]
    Request(#[from] rcgen::Error),
}

/// The subject alternative name that binds a certificate to a host.
#[must_use]
pub fn host_uri(host: &HostId) -> String {
    format!("hostledger:host:{host}")
}

impl Identity {
    /// Makes keys and the certificate request in `layout.dir`; each file is complete or absent.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] and whatever disk, randomness and name give.
    pub fn create(layout: &Layout, name: &str) -> Result<Self, IdentityError> {
        refuse_where_a_chain_lies(layout)?;
        make_dir(&layout.dir)?;
        make_dir(&layout.spool())?;
        make_dir(&layout.state())?;
        for path in [layout.signing_keys(), layout.signing_key(), layout.tls_key()] {
            if path.exists() {
                return Err(IdentityError::Exists(path));
            }
        }
        let record = KeyRecord::first(fresh_seed()?, fresh_seed()?, boot_id()?, boot_now());
        let tls_key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names = vec![rcgen::SanType::URI(host_uri(&record.host).try_into()?)];
        let csr = params.serialize_request(&tls_key)?.pem()?;
        write_new(&layout.csr(), csr.as_bytes(), 0o644)?;
        write_new(&layout.tls_key(), tls_key.serialize_pem().as_bytes(), 0o600)?;
        // The signing keys come last: a crash before them leaves no identity, only files made anew next time.
        let store = KeyStore::at(layout.signing_keys());
        store.create(&record)?;
        let keyring = record.keyring();
        let findings = Vec::new();
        Ok(Self {
            keyring,
            store,
            findings,
        })
    }

    /// Opens the signing keys; whatever a crash left of older ones is erased first.
    ///
    /// # Errors
    /// Names the file, what is wrong and what to do.
    pub fn load(layout: &Layout) -> Result<Self, IdentityError> {
        let store = KeyStore::at(layout.signing_keys());
        take_over_first_key(layout, &store)?;
        refuse_where_a_chain_lies(layout)?;
        let (keyring, findings) = store.open()?;
        scrub_stack();
        Ok(Self {
            keyring,
            store,
            findings,
        })
    }

    /// Whose keys they are; changes nothing.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn inspect(layout: &Layout) -> Result<HostId, IdentityError> {
        refuse_where_a_chain_lies(layout)?;
        if !layout.signing_keys().exists() && layout.signing_key().exists() {
            return read_first_key(layout).map(|seed| HostId::of_genesis_key(&seed.public()));
        }
        let store = KeyStore::at(layout.signing_keys());
        store.read().map(|(record, _)| record.host)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.keyring.held().host
    }
}

/// Agents before key epochs kept one key for good, as hex in `signing.key`: it is the key of epoch 0. A crash
/// between the steps leaves both files, and the older one is erased at the next start.
fn take_over_first_key(layout: &Layout, store: &KeyStore) -> Result<(), IdentityError> {
    let old = layout.signing_key();
    if !old.exists() {
        return Ok(());
    }
    if !layout.signing_keys().exists() {
        let record = KeyRecord::first(read_first_key(layout)?, fresh_seed()?, boot_id()?, boot_now());
        store.create(&record)?;
    }
    erase_file(&old)
}

fn read_first_key(layout: &Layout) -> Result<Seed, IdentityError> {
    let path = layout.signing_key();
    let text: SecretBytes = read_private(&path)?.into();
    let digits = text.trim_ascii_end();
    let bad = || IdentityError::Malformed(path.clone());
    if digits.len() != 64 {
        return Err(bad());
    }
    Seed::filled(|seed| {
        for (byte, pair) in seed.iter_mut().zip(digits.as_chunks::<2>().0) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(())
    })
}

/// A spool that was used belongs to keys that were there: without them nothing may be signed in its place.
fn refuse_where_a_chain_lies(layout: &Layout) -> Result<(), IdentityError> {
    let used = fs::read_dir(layout.spool()).is_ok_and(|mut entries| entries.next().is_some());
    if used && !layout.signing_keys().exists() && !layout.signing_key().exists() {
        return Err(IdentityError::Lost {
            keys: layout.signing_keys(),
            spool: layout.spool(),
        });
    }
    Ok(())
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// [`IdentityError::Missing`], [`IdentityError::Exposed`], [`IdentityError::Io`].
pub fn read_private(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let mut bytes = Vec::new();
    open_private(path, false)?
        .read_to_end(&mut bytes)
        .map_err(|cause| IdentityError::Io {
            path: path.to_owned(),
            cause,
        })?;
    Ok(bytes)
}

fn make_dir(path: &Path) -> Result<(), IdentityError> {
    let io_error = |cause| IdentityError::Io {
        path: path.to_owned(),
        cause,
    };
    fs::create_dir_all(path).map_err(io_error)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error)
}

/// Writes a file under another name, makes it durable and gives it its name.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let io_error = |cause| IdentityError::Io {
        path: path.to_owned(),
        cause,
    };
    crate::disk::replace(path, bytes, mode).map_err(io_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().join("agent"),
        };
        assert!(matches!(Identity::load(&layout), Err(IdentityError::Missing(_))));
        let made = Identity::create(&layout, "node-1").unwrap();
        assert_eq!(Identity::load(&layout).unwrap().host(), made.host());
        assert_eq!(Identity::inspect(&layout).unwrap(), made.host());
        assert!(matches!(
            Identity::create(&layout, "node-1"),
            Err(IdentityError::Exists(_))
        ));
        let csr = fs::read_to_string(layout.csr()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
        let needle = host_uri(&made.host());
        assert!(
            pem.contents
                .windows(needle.len())
                .any(|at| at == needle.as_bytes()),
            "the request names the host"
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().to_owned(),
        };
        Identity::create(&layout, "n").unwrap();
        fs::set_permissions(layout.signing_keys(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Identity::load(&layout),
            Err(IdentityError::Exposed { mode: 0o640, .. })
        ));
    }

    /// Never silently a new identity: neither `run` nor `init` goes on where a chain lies without its keys.
    #[test]
    fn lost_keys_are_told_and_no_new_identity_is_made_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().to_owned(),
        };
        Identity::create(&layout, "n").unwrap();
        fs::write(layout.spool().join("head"), b"x").unwrap();
        fs::remove_file(layout.signing_keys()).unwrap();
        assert!(matches!(Identity::load(&layout), Err(IdentityError::Lost { .. })));
        fs::remove_file(layout.tls_key()).unwrap();
        assert!(matches!(
            Identity::create(&layout, "n"),
            Err(IdentityError::Lost { .. })
        ));
    }

    #[test]
    fn the_one_key_of_older_agents_becomes_that_of_epoch_0_and_its_file_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().to_owned(),
        };
        write_new(
            &layout.signing_key(),
            (common::ids::hex(&[7; 32]) + "\n").as_bytes(),
            0o600,
        )
        .unwrap();
        let before = Identity::inspect(&layout).unwrap();
        let taken = Identity::load(&layout).unwrap();
        assert_eq!((taken.host(), taken.keyring.held().epoch.0), (before, 0));
        assert!(!layout.signing_key().exists());
        assert_eq!(
            Identity::load(&layout).unwrap().keyring.held(),
            taken.keyring.held()
        );
        fs::remove_file(layout.signing_keys()).unwrap();
        write_new(&layout.signing_key(), b"short\n", 0o600).unwrap();
        assert!(matches!(
            Identity::load(&layout),
            Err(IdentityError::Malformed(_))
        ));
    }
}
