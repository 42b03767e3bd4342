//! Text to values, collecting what is wrong instead of stopping at it.

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{AnchorTargets, Fault, Origin, QuorumMissing, Rule, rule};

/// Reads typed values; after a fault a harmless one stands in, since the whole is refused anyway.
pub(super) struct Values<'a, D> {
    values: &'a BTreeMap<&'a str, (String, Origin)>,
    describe: D,
    faults: Vec<Fault>,
}

impl<'a, D: Fn(&str, &Origin) -> String> Values<'a, D> {
    pub(super) fn new(values: &'a BTreeMap<&'a str, (String, Origin)>, describe: D) -> Self {
        Self {
            values,
            describe,
            faults: Vec::new(),
        }
    }

    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    pub(super) fn address(&mut self, name: &str) -> SocketAddr {
        self.read(name, |text| {
            text.parse().map_err(|_| {
                format!("{text:?} is no address with a port, such as 127.0.0.1:4433 or [::1]:4433")
            })
        })
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(super) fn count(&mut self, name: &str, bounds: RangeInclusive<usize>) -> usize {
        self.read(name, |text| {
            let value: usize = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
            if bounds.contains(&value) {
                Ok(value)
            } else {
                Err(format!(
                    "{value} is not between {} and {}",
                    bounds.start(),
                    bounds.end()
                ))
            }
        })
        .unwrap_or(*bounds.start())
    }

    pub(super) fn duration(&mut self, name: &str, bounds: RangeInclusive<Duration>) -> Duration {
        self.read(name, |text| {
            let value = duration(text)
                .ok_or_else(|| format!("{text:?} is no duration, such as 250ms, 10s, 5m, 12h or 90d"))?;
            if bounds.contains(&value) {
                Ok(value)
            } else {
                Err(format!(
                    "{text} is not between {:?} and {:?}",
                    bounds.start(),
                    bounds.end()
                ))
            }
        })
        .unwrap_or(*bounds.start())
    }

    /// Policy file and what to do without a quorum: both or neither, for trust never changes silently.
    pub(super) fn witnesses(&mut self, file: &str, missing: &str) -> Option<(PathBuf, QuorumMissing)> {
        let path = self.read(file, |text| Ok(text.to_owned()))?;
        let choice = self.read(missing, |text| match (text, path.is_empty()) {
            ("closed", false) => Ok(Some(QuorumMissing::Closed)),
            ("open", false) => Ok(Some(QuorumMissing::Open)),
            ("", true) => Ok(None),
            ("closed" | "open", true) => Err("is set, but witness_policy is not".to_owned()),
            ("", false) => {
                Err("must be closed or open where witness_policy is set: there is no default".to_owned())
            }
            (other, _) => Err(format!("{other:?} is neither closed nor open")),
        });
        choice.flatten().map(|missing| (PathBuf::from(path), missing))
    }

    /// A file, or none where the setting is empty.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let text = self.read(name, |text| Ok(text.to_owned()))?;
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    pub(super) fn rules(&mut self, name: &str) -> Vec<Rule> {
        self.read(name, rule::parse).unwrap_or_default()
    }

    /// Targets and how often. Stamps need somewhere to be kept and somebody to trust.
    pub(super) fn anchors(&mut self) -> Option<AnchorTargets> {
        let file = self.read("anchor_file", |text| Ok(text.to_owned()))?;
        let http = self.url("anchor_http")?;
        let tsa = self.url("anchor_tsa")?;
        let authorities = self.read("anchor_tsa_ca", |text| match (tsa.is_empty(), text.is_empty()) {
            (true, false) => Err("is set, but anchor_tsa is not".to_owned()),
            (false, true) => Err("must be set where anchor_tsa is: it says whose stamps count".to_owned()),
            (false, false) if file.is_empty() => {
                Err("needs anchor_file as well, where the stamps are kept".to_owned())
            }
            _ => Ok(text.to_owned()),
        });
        let leaves = self.count("anchor_leaves", 1..=1 << 40) as u64;
        let interval = self.duration(
            "anchor_interval",
            Duration::from_secs(1)..=Duration::from_secs(30 * 86_400),
        );
        let timeout = self.duration(
            "anchor_timeout",
            Duration::from_millis(100)..=Duration::from_secs(300),
        );
        let given = |text: String| (!text.is_empty()).then_some(text);
        let targets = AnchorTargets {
            file: given(file).map(PathBuf::from),
            tsa: given(tsa).zip(authorities.map(PathBuf::from)),
            http: given(http),
            leaves,
            interval,
            timeout,
        };
        (targets.file.is_some() || targets.http.is_some()).then_some(targets)
    }

    /// An address for HTTP, or nothing.
    fn url(&mut self, name: &str) -> Option<String> {
        self.read(name, |text| {
            let known = ["http://", "https://"];
            if text.is_empty() || known.iter().any(|scheme| text.starts_with(scheme)) {
                Ok(text.to_owned())
            } else {
                Err(format!("{text:?} begins with neither http:// nor https://"))
            }
        })
    }

    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (text, origin) = self.values.get(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.faults.push(Fault {
                    what: (self.describe)(name, origin),
                    why,
                });
                None
            }
        }
    }
}

/// A whole number with a unit: `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}
