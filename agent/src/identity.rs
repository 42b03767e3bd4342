//! Who this host is: the key that signs its chain, and the key and certificate of its connection.
//!
//! Owns the key files. Refuses to overwrite a key (a chain continues only under its own) and to use one that
//! others can read.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::ids::{HostId, PublicKey};
use ed25519_dalek::SigningKey;

use crate::config::Layout;

/// The key that signs headers and the host id that follows from it.
pub struct Identity {
    /// The host.
    pub host: HostId,
    /// Its key of epoch 0.
    pub key: SigningKey,
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
    #[error("{0} does not hold 32 bytes in hex: restore it from a backup; a new key would begin a new host")]
    Malformed(PathBuf),
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
        make_dir(&layout.dir)?;
        make_dir(&layout.spool())?;
        make_dir(&layout.state())?;
        for path in [layout.signing_key(), layout.tls_key()] {
            if path.exists() {
                return Err(IdentityError::Exists(path));
            }
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(IdentityError::Randomness)?;
        let identity = Self::of_seed(&seed);
        let tls_key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names = vec![rcgen::SanType::URI(host_uri(&identity.host).try_into()?)];
        let csr = params.serialize_request(&tls_key)?.pem()?;
        write_new(&layout.csr(), csr.as_bytes(), 0o644)?;
        write_new(&layout.tls_key(), tls_key.serialize_pem().as_bytes(), 0o600)?;
        // The signing key comes last: a crash before it leaves no identity, only files made anew next time.
        let hex = common::ids::hex(&seed) + "\n";
        write_new(&layout.signing_key(), hex.as_bytes(), 0o600)?;
        Ok(identity)
    }

    /// Reads the signing key.
    ///
    /// # Errors
    /// Names the file, what is wrong and what to do.
    pub fn load(layout: &Layout) -> Result<Self, IdentityError> {
        let path = layout.signing_key();
        let text = read_private(&path)?;
        let seed: common::ids::Hash = String::from_utf8_lossy(&text)
            .trim()
            .parse()
            .map_err(|_| IdentityError::Malformed(path))?;
        Ok(Self::of_seed(&seed.0))
    }

    fn of_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        Self {
            host: HostId::of_genesis_key(&PublicKey(key.verifying_key().to_bytes())),
            key,
        }
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// [`IdentityError::Missing`], [`IdentityError::Exposed`], [`IdentityError::Io`].
pub fn read_private(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let io_error = |cause| IdentityError::Io {
        path: path.to_owned(),
        cause,
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing(path.to_owned()));
        }
        other => other.map_err(io_error)?,
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.display().to_string(),
            mode,
        });
    }
    fs::read(path).map_err(io_error)
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
        assert_eq!(Identity::load(&layout).unwrap().host, made.host);
        assert!(matches!(
            Identity::create(&layout, "node-1"),
            Err(IdentityError::Exists(_))
        ));
        let csr = fs::read_to_string(layout.csr()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
        let needle = host_uri(&made.host);
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
        fs::set_permissions(layout.signing_key(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Identity::load(&layout),
            Err(IdentityError::Exposed { mode: 0o640, .. })
        ));
    }
}
