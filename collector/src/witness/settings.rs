//! What a witness was told: where to listen, whom to follow. Every fault is reported together.

use std::{fmt, net::SocketAddr};

use common::{note::VerifierKey, witness::TrustedLog};
use serde::Deserialize;

/// Most logs followed.
const LOGS_MAX: usize = 1024;
/// Most keys of one log.
const KEYS_MAX: usize = 16;

/// Settings of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// TCP address of its HTTP side, without TLS: put a proxy before it.
    pub listen: SocketAddr,
    /// Requests a second that one client may make.
    pub requests_per_second: u32,
    /// The logs it follows.
    pub logs: Vec<TrustedLog>,
}

/// All that is wrong with the settings. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadSettings(pub Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "witness.toml has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    #[serde(default = "default_rate")]
    requests_per_second: u32,
    #[serde(default)]
    log: Vec<LogTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    origin: Option<String>,
    keys: Vec<String>,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4435))
}

fn default_rate() -> u32 {
    20
}

impl Settings {
    /// Reads the text of `witness.toml`.
    pub fn parse(text: &str) -> Result<Self, BadSettings> {
        let file: File = toml::from_str(text)
            .map_err(|error| BadSettings(vec![error.to_string().trim_end().to_owned()]))?;
        let mut faults = Vec::new();
        let mut logs: Vec<TrustedLog> = Vec::new();
        if !(1..=100_000).contains(&file.requests_per_second) {
            faults.push("requests_per_second is not between 1 and 100000".to_owned());
        }
        if file.log.len() > LOGS_MAX {
            faults.push(format!("{} logs, more than {LOGS_MAX}", file.log.len()));
        }
        for (at, table) in file.log.into_iter().enumerate() {
            let name = format!("log {}", at + 1);
            if table.keys.is_empty() || table.keys.len() > KEYS_MAX {
                faults.push(format!("{name}: keys must have 1 to {KEYS_MAX} verifier keys"));
                continue;
            }
            let mut keys = Vec::new();
            for text in &table.keys {
                match VerifierKey::parse(text) {
                    Ok(key) => keys.push(key),
                    Err(cause) => faults.push(format!("{name}: key {text:?}: {cause}")),
                }
            }
            let Some(first) = keys.first() else { continue };
            let origin = table.origin.unwrap_or_else(|| first.name().to_owned());
            if origin.is_empty() || origin.chars().any(char::is_control) {
                faults.push(format!("{name}: origin {origin:?} cannot stand in a checkpoint"));
            }
            if logs.iter().any(|log| log.origin == origin) {
                faults.push(format!(
                    "{name}: origin {origin:?} is listed twice; give it all its keys in one place"
                ));
            }
            logs.push(TrustedLog { origin, keys });
        }
        if faults.is_empty() {
            Ok(Self {
                listen: file.listen,
                requests_per_second: file.requests_per_second,
                logs,
            })
        } else {
            Err(BadSettings(faults))
        }
    }
}

/// The commented file that `witness init` writes.
#[must_use]
pub fn template(listen: Option<SocketAddr>, keys: &[VerifierKey]) -> String {
    let listen = match listen {
        Some(address) => format!("listen = \"{address}\""),
        None => format!("# listen = \"{}\"", default_listen()),
    };
    let mut text = format!(
        "# Settings of hostledger-collector witness. Lines with # show defaults.\n\n\
         # TCP address of add-checkpoint (plain HTTP: keep it on loopback or behind a proxy with TLS)\n{listen}\n\n\
         # requests a second that one client may make\n# requests_per_second = {}\n\n\
         # One table for each log to follow. `origin` is the first key's name when left out.\n\
         # [[log]]\n# origin = \"ledger.example/one\"\n# keys = [\"ledger.example/one+0123abcd+AQ...\"]\n",
        default_rate()
    );
    for key in keys {
        text.push_str(&format!("\n[[log]]\nkeys = [\"{key}\"]\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn the_template_reads_as_what_was_asked_for() {
        let key = VerifierKey::parse(KEY).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 7));
        let read = Settings::parse(&template(Some(listen), std::slice::from_ref(&key))).unwrap();
        assert_eq!((read.listen, read.requests_per_second), (listen, 20));
        assert_eq!(
            read.logs,
            [TrustedLog {
                origin: "PeterNeumann".to_owned(),
                keys: vec![key]
            }]
        );
        assert_eq!(
            Settings::parse(&template(None, &[])).unwrap().listen,
            default_listen()
        );
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = format!(
            "requests_per_second = 0\n[[log]]\nkeys = []\n[[log]]\nkeys = [\"{KEY}\", \"nonsense\"]\n\
             [[log]]\norigin = \"PeterNeumann\"\nkeys = [\"{KEY}\"]\n"
        );
        let BadSettings(faults) = Settings::parse(&text).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(Settings::parse("listn = 3").is_err());
    }
}
