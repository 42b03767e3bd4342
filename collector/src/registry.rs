//! Registered hosts: one file each under `hosts/`, read anew for every connection.
//!
//! Owns who is welcome. The file is the authority: removing it, or a serial from it, refuses the host, or the
//! certificate, from the next connection on, without a restart.

use std::{fs, path::Path};

use common::ids::{Hash, HostId};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError, PUBLIC},
    findings::Finding,
    layout::Layout,
    pki::{Issued, PeerIdentity},
};

/// Longest registration read, bytes.
const HOST_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Begins the first line of a registration; the hash of all that follows comes next.
const SEAL: &str = "# sha256 ";
/// Certificates kept in a registration; the oldest go first.
const CERTIFICATES_MAX: usize = 64;

/// A registered host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// When it was first registered, RFC 3339.
    pub enrolled_at: String,
    /// Its declared end, if it has one: nothing is taken from it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The certificates accepted from it, oldest first.
    #[serde(default)]
    pub certificates: Vec<AcceptedCertificate>,
}

/// An operator's word that a host has ended. It is for good: a host that lives on is enrolled with a new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// When that was declared, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// A certificate accepted from a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedCertificate {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// When it was issued, RFC 3339.
    pub issued_at: String,
    /// Until when it is valid, RFC 3339.
    pub not_after: String,
}

/// Why a registration could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The disk or the operator.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operator edited it into something else.
    #[error("{path} is not a registration: {cause}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// No such host. The operator.
    #[error("host {0} is not registered here")]
    Unregistered(HostId),
    /// Its end was declared before. The operator: a host that lives on needs a new key.
    #[error("host {host} was declared to have ended at {at}")]
    Ended {
        /// The host.
        host: HostId,
        /// When, RFC 3339.
        at: String,
    },
}

/// Why a host with a good certificate is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotWelcome {
    /// It was never registered, or its registration was removed.
    #[error("host {0} is not registered here")]
    Unregistered(HostId),
    /// Its end was declared.
    #[error("host {host} was declared to have ended at {at}")]
    Ended {
        /// The host.
        host: HostId,
        /// When, RFC 3339.
        at: String,
    },
    /// Its registration does not list this certificate.
    #[error("certificate {serial} of host {host} is not in its registration")]
    Certificate {
        /// The host.
        host: HostId,
        /// The certificate's serial number.
        serial: String,
    },
    /// The registration cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Registers the host of a new certificate, or adds the certificate to its registration. `at` is now in
/// RFC 3339; without a `name` the one registered stays, at first the id's short form.
pub fn register(
    layout: &Layout,
    issued: &Issued,
    name: Option<&str>,
    at: &str,
    not_after: &str,
) -> Result<Registration, RegistryError> {
    let mut registration = read(layout, &issued.host)?.unwrap_or_else(|| Registration {
        host: issued.host,
        name: issued.host.short(),
        enrolled_at: at.to_owned(),
        ended: None,
        certificates: Vec::new(),
    });
    refuse_ended(&registration)?;
    if let Some(name) = name {
        name.clone_into(&mut registration.name);
    }
    registration.certificates.push(AcceptedCertificate {
        serial: issued.serial.clone(),
        issued_at: at.to_owned(),
        not_after: not_after.to_owned(),
    });
    let excess = registration.certificates.len().saturating_sub(CERTIFICATES_MAX);
    registration.certificates.drain(..excess);
    write(layout, &registration)?;
    Ok(registration)
}

/// Declares that a host has ended. `at` is now in RFC 3339.
pub fn end(layout: &Layout, host: &HostId, at: &str, reason: &str) -> Result<Registration, RegistryError> {
    let mut registration = read(layout, host)?.ok_or(RegistryError::Unregistered(*host))?;
    refuse_ended(&registration)?;
    registration.ended = Some(Ended {
        at: at.to_owned(),
        reason: reason.to_owned(),
    });
    write(layout, &registration)?;
    Ok(registration)
}

fn refuse_ended(registration: &Registration) -> Result<(), RegistryError> {
    registration.ended.as_ref().map_or(Ok(()), |ended| {
        Err(RegistryError::Ended {
            host: registration.host,
            at: ended.at.clone(),
        })
    })
}

fn write(layout: &Layout, registration: &Registration) -> Result<(), RegistryError> {
    let path = layout.host(&registration.host);
    let text = toml::to_string(registration).map_err(|error| RegistryError::Malformed {
        path: path.display().to_string(),
        cause: error.to_string(),
    })?;
    Ok(files::replace(&path, sealed(&text).as_bytes(), PUBLIC)?)
}

/// A registration's text with a first line that tells whether the rest is as this program wrote it.
fn sealed(text: &str) -> String {
    format!(
        "{SEAL}{} of what follows, as this program wrote it\n{text}",
        Hash::of(text.as_bytes())
    )
}

/// Registrations that are not as this program wrote them. They count all the same: the file is the authority, and an
/// operator may edit it.
pub(crate) fn examine(layout: &Layout) -> Vec<Finding> {
    let entries = fs::read_dir(layout.hosts()).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let registrations = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let unfit = |path: std::path::PathBuf| {
        let read = files::read_text(&path, HOST_FILE_BYTES_MAX).map_err(RegistryError::from);
        let what = match read.and_then(|text| parse(&path, &text).map(|_| text)) {
            Err(error) => error.to_string(),
            Ok(text) if text.split_once('\n').is_some_and(|(_, rest)| text == sealed(rest)) => return None,
            Ok(_) => "it is not as this program wrote it: an operator edited it, an earlier version wrote it, or it was \
                      altered. Look at it, and run `enrol` for this host again to have it written anew"
                .to_owned(),
        };
        Some(Finding::new(path, what))
    };
    registrations.filter_map(unfit).collect()
}

/// The registration of `host`, if there is one.
pub fn read(layout: &Layout, host: &HostId) -> Result<Option<Registration>, RegistryError> {
    let path = layout.host(host);
    match files::read_text(&path, HOST_FILE_BYTES_MAX) {
        Ok(text) => parse(&path, &text).map(Some),
        Err(error) if error.cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the holder of a certificate that TLS has verified is served.
pub fn admit(layout: &Layout, peer: &PeerIdentity) -> Result<Registration, NotWelcome> {
    let registration = read(layout, &peer.host)?.ok_or(NotWelcome::Unregistered(peer.host))?;
    if let Some(ended) = &registration.ended {
        return Err(NotWelcome::Ended {
            host: peer.host,
            at: ended.at.clone(),
        });
    }
    if registration
        .certificates
        .iter()
        .any(|certificate| certificate.serial == peer.serial)
    {
        Ok(registration)
    } else {
        Err(NotWelcome::Certificate {
            host: peer.host,
            serial: peer.serial.clone(),
        })
    }
}

/// Every registration, by host id.
pub fn list(layout: &Layout) -> Result<Vec<Registration>, RegistryError> {
    let dir = layout.hosts();
    let entries = fs::read_dir(&dir).map_err(FileError::on("list", &dir))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(FileError::on("list", &dir))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(parse(&path, &files::read_text(&path, HOST_FILE_BYTES_MAX)?)?);
        }
    }
    found.sort_by_key(|registration| registration.host);
    Ok(found)
}

fn parse(path: &Path, text: &str) -> Result<Registration, RegistryError> {
    let malformed = |cause: String| RegistryError::Malformed {
        path: path.display().to_string(),
        cause,
    };
    let registration: Registration =
        toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
    let expected = format!("{}.toml", registration.host);
    if path.file_name().is_some_and(|name| name == expected.as_str()) {
        Ok(registration)
    } else {
        Err(malformed(format!("it is of host {}", registration.host)))
    }
}
