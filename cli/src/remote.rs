//! Checkpoints and tiles that others serve over HTTP: C2SP tlog-tiles logs and tlog-witness witnesses.
//!
//! Owns addresses, time limits and lengths. Refuses to believe anything: what is read is judged by signatures and
//! hashes, and what cannot be read is a named fault of whoever serves it.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use common::{
    certificate,
    ids::{Hash, hex},
    limits::NOTE_BYTES_MAX,
};
use ledger::{
    StorageError,
    anchor::stamp::{AUTHORITIES_BYTES_MAX, certificates},
    storage::{NewObject, Storage, Usage},
    tiles::LOG,
};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{Failure, command::read_file};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses one request may be sent on to.
const REDIRECTS_MAX: u32 = 3;
/// Last element of a checkpoint's address.
const CHECKPOINT: &str = "/checkpoint";

/// Whether `text` is an address and no path.
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whose certificates count under `https://`: those of the authorities in `file` and no others, or of the public ones.
pub(crate) fn authorities(file: Option<&Path>) -> Result<RootCerts, Failure> {
    let Some(path) = file else {
        return Ok(RootCerts::WebPki);
    };
    let pem = read_file(path, AUTHORITIES_BYTES_MAX)?;
    let found = certificates(&pem).map_err(|cause| Failure::Config {
        cause: format!("{}: {cause}", path.display()),
        remedy: "give a PEM file with the certificates of the authorities that issued those of the servers"
            .into(),
    })?;
    let owned = found.iter().map(|der| Certificate::from_der(der).to_owned());
    Ok(RootCerts::Specific(Arc::new(owned.collect())))
}

/// Somebody's log or witness.
pub(crate) struct Remote {
    agent: ureq::Agent,
    prefix: String,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.prefix).finish()
    }
}

impl Remote {
    /// Whatever is served at `url`, which may name the checkpoint there or what it lies below.
    pub(crate) fn at(url: &str, roots: &RootCerts) -> Self {
        let tls = TlsConfig::builder().root_certs(roots.clone()).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_redirects(REDIRECTS_MAX)
            .http_status_as_error(false)
            .tls_config(tls)
            .user_agent(concat!("hostledger/", env!("CARGO_PKG_VERSION")))
            .build();
        let url = url.trim_end_matches('/');
        Self {
            agent: config.into(),
            prefix: url.strip_suffix(CHECKPOINT).unwrap_or(url).to_owned(),
        }
    }

    /// The signed note there: of a log, or of a witness that follows several, of the one for `origin`.
    pub(crate) fn checkpoint(&self, origin: &str) -> Result<Vec<u8>, Failure> {
        let of_log = format!("{}{CHECKPOINT}", self.prefix);
        let of_witness = format!(
            "{}/{}{CHECKPOINT}",
            self.prefix,
            hex(&Hash::of(origin.as_bytes()).0)
        );
        for url in [&of_log, &of_witness] {
            let read = self.get(url, NOTE_BYTES_MAX as u64);
            let found = read.map_err(|cause| Failure::Remote {
                url: url.clone(),
                cause,
            })?;
            if let Some(note) = found {
                return Ok(note);
            }
        }
        Err(Failure::Remote {
            url: self.prefix.clone(),
            cause: format!("neither {of_log} nor {of_witness} is there"),
        })
    }

    /// The body at `url`; `None` where the server says that there is none. The error is the cause.
    fn get(&self, url: &str, length_max: u64) -> Result<Option<Vec<u8>>, String> {
        let refused = |error: ureq::Error| certificate::in_words(&error.to_string(), "--ca");
        let mut answer = self.agent.get(url).call().map_err(refused)?;
        match answer.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(None),
            429 => return Err("it asks to be asked less often (status 429)".into()),
            status => return Err(format!("it answered with status {status}")),
        }
        let too_long = || format!("it sent more than the {length_max} bytes there may be");
        // The client takes its limit for exceeded when it is reached: a full tile is as long as a tile may be.
        let body = answer.body_mut().with_config().limit(length_max + 1);
        match body.read_to_vec() {
            Ok(bytes) if bytes.len() as u64 <= length_max => Ok(Some(bytes)),
            Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => Err(too_long()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn refused<T>(&self) -> Result<T, StorageError> {
        Err(StorageError::Read {
            path: self.prefix.clone(),
            source: io::Error::from(io::ErrorKind::Unsupported),
        })
    }
}

/// Whole resources of a log, read and nothing else.
impl Storage for Remote {
    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        let name = path.strip_prefix(LOG).unwrap_or(path);
        let read = self.get(&format!("{}{name}", self.prefix), length_max);
        let found = read.map_err(|cause| StorageError::Read {
            path: format!("{}{name}", self.prefix),
            source: io::Error::other(cause),
        })?;
        if let Some(bytes) = &found {
            buffer.extend_from_slice(bytes);
        }
        Ok(found.is_some())
    }

    fn create(&self, _: &[NewObject<'_>]) -> Result<(), StorageError> {
        self.refused()
    }

    fn replace(&self, _: &str, _: &[u8]) -> Result<(), StorageError> {
        self.refused()
    }

    fn settle(&self, _: &str) -> Result<(), StorageError> {
        self.refused()
    }

    fn length(&self, _: &str) -> Result<Option<u64>, StorageError> {
        self.refused()
    }

    fn read_range(&self, _: &str, _: u64, _: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.refused()
    }

    fn list(&self, _: &str) -> Result<Vec<String>, StorageError> {
        self.refused()
    }

    fn remove(&self, _: &str) -> Result<(), StorageError> {
        self.refused()
    }

    fn remove_durably(&self, _: &str) -> Result<(), StorageError> {
        self.refused()
    }

    fn usage(&self, _: &str) -> Result<Usage, StorageError> {
        self.refused()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// A server that answers each path with what `answer` gives: status and body.
    fn serve(answer: fn(&str) -> (u16, Vec<u8>)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let (status, body) = answer(&path);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // A client that has read enough may be gone.
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body));
            }
        });
        format!("http://{address}/log")
    }

    fn at(url: &str) -> Remote {
        Remote::at(url, &RootCerts::WebPki)
    }

    fn said(failure: Failure) -> String {
        format!("{failure}; {}", failure.remedy().unwrap_or_default())
    }

    #[test]
    fn a_checkpoint_is_found_by_its_own_address_by_a_logs_and_by_a_witnesss() {
        let log = serve(|path| match path {
            "/log/checkpoint" => (200, b"of the log".to_vec()),
            _ => (404, Vec::new()),
        });
        for url in [log.clone(), format!("{log}/"), format!("{log}/checkpoint")] {
            assert_eq!(at(&url).checkpoint("o").unwrap(), b"of the log");
        }
        // SHA-256 of "o".
        let witness = serve(|path| {
            let (_, rest) = path.split_once("/log/").unwrap();
            match rest {
                "65c74c15a686187bb6bbf9958f494fc6b80068034a659a9ad44991b08c58f2d2/checkpoint" => {
                    (200, b"of the witness".to_vec())
                }
                _ => (404, Vec::new()),
            }
        });
        assert_eq!(at(&witness).checkpoint("o").unwrap(), b"of the witness");
        let nothing = said(at(&witness).checkpoint("p").unwrap_err());
        assert!(
            nothing.contains("neither") && nothing.contains("is there"),
            "{nothing}"
        );
    }

    #[test]
    fn who_is_at_fault_is_said_and_no_answer_is_taken_that_is_too_long() {
        let broken = serve(|path| match path {
            "/log/checkpoint" => (200, vec![b'x'; NOTE_BYTES_MAX + 1]),
            "/log/tile/0/000" => (500, Vec::new()),
            "/log/tile/0/001" => (429, Vec::new()),
            _ => (200, vec![7; 64]),
        });
        let long = said(at(&broken).checkpoint("o").unwrap_err());
        assert!(
            long.contains("more than the 65536 bytes") && long.contains("whoever serves"),
            "{long}"
        );
        let remote = at(&broken);
        let tile = |path: &str| remote.read(path, 64).map_err(|error| error.to_string());
        assert!(tile("log/tile/0/000").unwrap_err().contains("status 500"));
        assert!(tile("log/tile/0/001").unwrap_err().contains("less often"));
        assert_eq!(tile("log/tile/0/002"), Ok(Some(vec![7; 64])));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone = said(at(&format!("http://{port}")).checkpoint("o").unwrap_err());
        assert!(gone.contains("cannot read http://"), "{gone}");
    }
}
