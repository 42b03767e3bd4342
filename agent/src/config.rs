//! Settings: a TOML file, then environment, then flags, each overriding the one before.
//!
//! Owns every setting's name, range and default. Refuses to stop at the first mistake: all faults of all
//! sources are reported together, each with where it came from.

use common::limits::BATCH_BODY_BYTES_MAX;
use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    path::{Path, PathBuf},
    time::Duration,
};

/// Prefix of the environment variable of each setting.
const ENV_PREFIX: &str = "HOSTLEDGER_AGENT_";
/// The settings file inside the agent's directory.
pub const FILE_NAME: &str = "agent.toml";

/// What the agent runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name shown for this host; facts never depend on it.
    pub name: String,
    /// Where batches go; none keeps them in the spool.
    pub collector: Option<Collector>,
    /// File with the witnesses that must have cosigned before a batch leaves the spool, relative to the agent's
    /// directory; `None` demands none.
    pub witness_policy: Option<PathBuf>,
    /// Which sensors to try.
    pub sensors: SensorChoice,
    /// Pause between two scans of `/proc` where no kernel sensor works.
    pub scan_every: Duration,
    /// Time between baselines of the kernel's sensors; a loss brings the next one forward.
    pub baseline_every: Duration,
    /// Longest argument list kept, bytes.
    pub argv_bytes_max: usize,
    /// Most bytes of events waiting between sensors and journal.
    pub queue_bytes_max: usize,
    /// Age at which a batch is sealed.
    pub seal_after: Duration,
    /// Size of the body at which a batch is sealed, bytes.
    pub seal_bytes: usize,
    /// Silence after which an empty batch is sealed.
    pub heartbeat_after: Duration,
    /// Most bytes the spool takes on disk.
    pub spool_bytes_max: u64,
    /// Age at which the signing key is replaced.
    pub epoch_max_age: Duration,
    /// Number of batches after which it is.
    pub epoch_max_batches: u64,
    /// How long a stopping agent goes on shipping.
    pub drain_for: Duration,
}

/// Where the collector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// `host:port`.
    pub address: String,
    /// The name its certificate must carry.
    pub server_name: String,
}

/// Which sensors to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SensorChoice {
    /// The kernel's, and `/proc` where they do not load.
    Auto,
    /// `/proc` alone.
    Procfs,
}

/// Every mistake found in the settings. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub struct ConfigFaults(Vec<String>);

impl Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fault(s) in the settings:", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl Config {
    /// Reads `file` (which may be missing unless `file_required`), the environment `env` and `flags`.
    ///
    /// # Errors
    /// [`ConfigFaults`] with everything that is wrong.
    pub fn load(
        file: &Path,
        file_required: bool,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigFaults> {
        let mut settings = Settings::default();
        settings.add_file(file, file_required);
        for (name, value) in env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX).and_then(setting_of_env) {
                settings.put(key.into(), value, format!("environment variable {name}"));
            }
        }
        for (key, value) in flags {
            settings.put((*key).into(), value.clone(), format!("flag for {key}"));
        }
        settings.into_config()
    }
}

/// Every setting, with its default as text and what it means (shown by `--help` and in the written file).
pub const SETTINGS: &[(&str, &str, &str)] = &[
    ("name", "", "name shown for this host; the node name if empty"),
    (
        "collector.address",
        "",
        "host:port of the collector; empty keeps batches in the spool",
    ),
    (
        "collector.server_name",
        "",
        "name in the collector's certificate; the host of its address if empty",
    ),
    (
        "witness_policy",
        "",
        "file with the witnesses that must have cosigned before batches leave the spool, C2SP tlog-policy; empty demands none",
    ),
    (
        "sensors.choice",
        "auto",
        "auto, or procfs to leave the kernel's alone",
    ),
    (
        "sensors.scan_ms",
        "500",
        "pause between scans of /proc where no kernel sensor works",
    ),
    (
        "sensors.baseline_s",
        "3600",
        "seconds between baselines of all that exists; a loss brings the next one forward",
    ),
    ("sensors.argv_bytes_max", "4096", "longest argument list kept"),
    (
        "queue.bytes_max",
        "16777216",
        "most bytes of events waiting between sensors and journal",
    ),
    ("batch.seal_ms", "500", "age at which a batch is sealed"),
    (
        "batch.seal_bytes",
        "262144",
        "size of the body at which a batch is sealed",
    ),
    (
        "batch.heartbeat_ms",
        "5000",
        "silence after which an empty batch is sealed",
    ),
    (
        "spool.bytes_max",
        "1073741824",
        "most bytes the spool takes on disk",
    ),
    (
        "keys.epoch_max_age_ms",
        "21600000",
        "age at which the signing key is replaced and the old one erased",
    ),
    (
        "keys.epoch_max_batches",
        "100000",
        "number of batches after which it is, whichever comes first",
    ),
    (
        "stop.drain_ms",
        "5000",
        "how long a stopping agent goes on shipping",
    ),
];

fn setting_of_env(suffix: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|(key, ..)| *key)
        .find(|key| key.replace('.', "_").to_uppercase() == suffix)
}

/// The text of a settings file with every setting commented out at its default, but for those in `set`.
#[must_use]
pub fn template(set: &[(&str, String)]) -> String {
    let mut text =
        String::from("# Settings of hostledger-agent. Flags and HOSTLEDGER_AGENT_* override them.\n");
    for (key, default, help) in SETTINGS {
        let chosen = set.iter().find(|(name, _)| name == key);
        let (mark, value) = chosen.map_or(("# ", (*default).to_owned()), |(_, value)| ("", value.clone()));
        let quoted = match value.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => toml::Value::String(value).to_string(),
        };
        text.push_str(&format!("\n# {help}\n{mark}{key} = {quoted}\n"));
    }
    text
}

/// Values by setting, with where each came from, and the faults so far.
#[derive(Default)]
struct Settings {
    values: BTreeMap<String, (String, String)>,
    faults: Vec<String>,
}

impl Settings {
    fn put(&mut self, key: String, value: String, origin: String) {
        self.values.insert(key, (value, origin));
    }

    fn add_file(&mut self, file: &Path, required: bool) {
        let origin = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return,
            Err(error) => return self.faults.push(format!("{origin}: {error}")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.add_table(&origin, "", table),
            Err(error) => self.faults.push(format!("{origin}: {error}")),
        }
    }

    fn add_table(&mut self, origin: &str, prefix: &str, table: toml::Table) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => self.add_table(origin, &format!("{key}."), inner),
                toml::Value::String(text) => self.put(key, text, origin.into()),
                toml::Value::Integer(number) => self.put(key, number.to_string(), origin.into()),
                other => self.faults.push(format!(
                    "{origin}: {key} is a {}, expected a string or a whole number",
                    other.type_str()
                )),
            }
        }
    }

    /// Takes a setting through `read`; on a fault notes it and goes on with nothing.
    fn take<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let default = SETTINGS
            .iter()
            .find(|(name, ..)| *name == key)
            .map_or("", |s| s.1);
        let (value, origin) = self
            .values
            .remove(key)
            .unwrap_or_else(|| (default.into(), "default".into()));
        read(&value)
            .map_err(|why| self.faults.push(format!("{origin}: {key} = {value:?}: {why}")))
            .ok()
    }

    fn number(&mut self, key: &str, min: u64, max: u64) -> u64 {
        self.take(key, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("expected a whole number from {min} to {max}")),
        })
        .unwrap_or(min)
    }

    fn size(&mut self, key: &str, min: usize, max: usize) -> usize {
        usize::try_from(self.number(key, min as u64, max as u64)).unwrap_or(max)
    }

    fn millis(&mut self, key: &str, min: u64, max: u64) -> Duration {
        Duration::from_millis(self.number(key, min, max))
    }

    fn text(&mut self, key: &str) -> String {
        self.take(key, |text| Ok(text.to_owned())).unwrap_or_default()
    }

    fn into_config(mut self) -> Result<Config, ConfigFaults> {
        let name = self.text("name");
        let server_name = self.text("collector.server_name");
        let collector = self
            .take("collector.address", |text| read_collector(text, &server_name))
            .flatten();
        let witness_policy = Some(self.text("witness_policy"))
            .filter(|file| !file.is_empty())
            .map(PathBuf::from);
        let sensors = self
            .take("sensors.choice", |text| match text {
                "auto" => Ok(SensorChoice::Auto),
                "procfs" => Ok(SensorChoice::Procfs),
                _ => Err("expected auto or procfs".into()),
            })
            .unwrap_or(SensorChoice::Auto);
        let config = Config {
            name,
            collector,
            witness_policy,
            sensors,
            scan_every: self.millis("sensors.scan_ms", 50, 60_000),
            baseline_every: Duration::from_secs(self.number("sensors.baseline_s", 1, 7 * 86_400)),
            argv_bytes_max: self.size("sensors.argv_bytes_max", 64, common::limits::ARGV_BYTES_MAX),
            queue_bytes_max: self.size("queue.bytes_max", 1 << 16, 1 << 30),
            seal_after: self.millis("batch.seal_ms", 10, 60_000),
            seal_bytes: self.size("batch.seal_bytes", 65_536, BATCH_BODY_BYTES_MAX),
            heartbeat_after: self.millis("batch.heartbeat_ms", 100, 600_000),
            spool_bytes_max: self.number("spool.bytes_max", 1 << 23, 1 << 40),
            epoch_max_age: self.millis("keys.epoch_max_age_ms", 1_000, 366 * 86_400_000),
            epoch_max_batches: self.number("keys.epoch_max_batches", 1, 1 << 40),
            drain_for: self.millis("stop.drain_ms", 0, 600_000),
        };
        for (key, (_, origin)) in std::mem::take(&mut self.values) {
            self.faults
                .push(format!("{origin}: no setting is called {key:?}"));
        }
        if self.faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigFaults(self.faults))
        }
    }
}

fn read_collector(address: &str, server_name: &str) -> Result<Option<Collector>, String> {
    if address.is_empty() {
        return Ok(None);
    }
    let (host, port) = address
        .rsplit_once(':')
        .ok_or("expected host:port, e.g. collector.example:7171")?;
    if port.parse::<u16>().is_err() || host.is_empty() {
        return Err("expected host:port with a port from 0 to 65535".into());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let server_name = if server_name.is_empty() { host } else { server_name };
    rustls_pki_types::ServerName::try_from(server_name)
        .map_err(|_| format!("{server_name:?} cannot be the name in a certificate"))?;
    Ok(Some(Collector {
        address: address.to_owned(),
        server_name: server_name.to_owned(),
    }))
}

/// Where things lie in the agent's directory.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The directory.
    pub dir: PathBuf,
}

impl Layout {
    /// The settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }
    /// The keys that sign headers, readable by the owner alone.
    #[must_use]
    pub fn signing_keys(&self) -> PathBuf {
        self.dir.join("signing.keys")
    }
    /// The one key of agents before key epochs: taken over into [`Self::signing_keys`] and erased.
    #[must_use]
    pub fn signing_key(&self) -> PathBuf {
        self.dir.join("signing.key")
    }
    /// Private key of the connection to the collector, PKCS#8 PEM, readable by the owner alone.
    #[must_use]
    pub fn tls_key(&self) -> PathBuf {
        self.dir.join("tls.key")
    }
    /// Certificate request for that key.
    #[must_use]
    pub fn csr(&self) -> PathBuf {
        self.dir.join("agent.csr")
    }
    /// The certificate that enrolment gave, PEM.
    #[must_use]
    pub fn tls_certificate(&self) -> PathBuf {
        self.dir.join("tls.crt")
    }
    /// The authority that vouches for the collector, PEM.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }
    /// Verifier key of the ledger, C2SP vkey text.
    #[must_use]
    pub fn ledger_key(&self) -> PathBuf {
        self.dir.join("ledger.vkey")
    }

    /// The last checkpoint seen, a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.state().join("checkpoint")
    }

    /// What the collector said that cannot stand beside what it said before.
    #[must_use]
    pub fn evidence(&self) -> PathBuf {
        self.state().join("evidence")
    }

    /// The history of the ledger's keys learnt from the collector.
    #[must_use]
    pub fn learnt_keys(&self) -> PathBuf {
        self.state().join("ledger.keys")
    }

    /// The history of the ledger's keys as enrolment handed it out, where it did.
    #[must_use]
    pub fn ledger_keys(&self) -> PathBuf {
        self.dir.join("ledger.keys")
    }
    /// Sealed batches.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }
    /// The last checkpoint seen, the lock and the status.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, String)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&path, true, env, flags).map_err(|faults| faults.to_string())
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let config = load(
            "name = 'a'\nwitness_policy = 'w'\n[batch]\nseal_ms = 100\nheartbeat_ms = 200\n",
            &[("HOSTLEDGER_AGENT_BATCH_SEAL_MS", "300"), ("PATH", "/bin")],
            &[("collector.address", "[::1]:7171".into())],
        )
        .unwrap();
        assert_eq!(config.name, "a");
        assert_eq!(config.witness_policy, Some("w".into()));
        assert_eq!(config.seal_after, Duration::from_millis(300));
        assert_eq!(config.heartbeat_after, Duration::from_millis(200));
        assert_eq!(config.collector.unwrap().server_name, "::1");
    }

    #[test]
    fn all_faults_are_reported_together_with_their_origin() {
        let text = load(
            "nmae = 'a'\n[batch]\nseal_ms = 1\nseal_bytes = true\n",
            &[("HOSTLEDGER_AGENT_SPOOL_BYTES_MAX", "lots")],
            &[("collector.address", "nowhere".into())],
        )
        .unwrap_err();
        for expected in [
            "nmae",
            "batch.seal_ms",
            "batch.seal_bytes",
            "SPOOL_BYTES_MAX",
            "collector.address",
        ] {
            assert!(text.contains(expected), "{expected} is missing in: {text}");
        }
        assert!(text.starts_with("5 fault(s)"), "{text}");
    }

    #[test]
    fn the_template_reads_back_as_the_defaults_and_the_chosen() {
        let config = load(&template(&[("name", "n\"1".into())]), &[], &[]).unwrap();
        assert_eq!(config.name, "n\"1");
        assert_eq!(config.seal_after, Duration::from_millis(500));
        assert_eq!(config.collector, None);
        assert_eq!(config.witness_policy, None);
    }
}
