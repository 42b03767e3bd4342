//! Rules of retention as an operator writes them: criteria `name=value`, the words of prune certificates.
//!
//! Owns their form and bounds. What they let go is [`common::retention`]'s to decide; refuses a rule that names nothing,
//! for it would name everything.

use std::{fmt, time::Duration};

use common::{ids::HostId, ids::WallNanos, retention::Policy};

use super::duration;

/// Most rules.
const RULES_MAX: usize = 64;

/// One rule: a body goes where every criterion given lets it go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Batches that ended so long ago, by their host's clock.
    pub older_than: Option<Duration>,
    /// Batches that are not among this many newest ones of their host.
    pub keep_batches: Option<u64>,
    /// The oldest bodies, until no more than this many bytes of bodies are left.
    pub bytes_max: Option<u64>,
    /// Batches of this host.
    pub host: Option<HostId>,
}

impl Rule {
    /// What it asks for at an instant.
    #[must_use]
    pub fn policy(&self, now: WallNanos) -> Policy {
        let before = |age: Duration| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            WallNanos(now.0.saturating_sub(age))
        };
        Policy {
            older_than: self.older_than.map(before),
            keep_batches: self.keep_batches,
            bytes_max: self.bytes_max,
            host: self.host,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.older_than
                // Whole seconds where it is: no other way of writing a number reads back as the same one.
                .map(|age| match (age.as_secs(), age.subsec_nanos()) {
                    (seconds, 0) => format!("older_than={seconds}s"),
                    _ => format!("older_than={}ms", age.as_millis()),
                }),
            self.keep_batches.map(|count| format!("keep_batches={count}")),
            self.bytes_max.map(|bytes| format!("bytes_max={bytes}")),
            self.host.map(|host| format!("host={host}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// Reads rules with `;` between them; none from a text without words.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let rules = text
        .split(';')
        .filter(|rule| !rule.trim().is_empty())
        .map(parse_one)
        .collect::<Result<Vec<_>, _>>()?;
    if rules.len() > RULES_MAX {
        return Err(format!("{} rules are more than {RULES_MAX}", rules.len()));
    }
    Ok(rules)
}

fn parse_one(text: &str) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for word in text.split_whitespace() {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} is no criterion, such as older_than=90d"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{word:?} does not give a whole number"))
        };
        let again = match name {
            "older_than" => {
                let age = duration(value)
                    .ok_or_else(|| format!("{word:?} does not give an age, such as 90d or 12h"))?;
                rule.older_than.replace(age).is_some()
            }
            "keep_batches" => rule.keep_batches.replace(number()?).is_some(),
            "bytes_max" => rule.bytes_max.replace(number()?).is_some(),
            "host" => {
                let host = value
                    .parse()
                    .map_err(|_| format!("{word:?} does not give a host's id, 64 hex digits"))?;
                rule.host.replace(host).is_some()
            }
            _ => {
                return Err(format!(
                    "{name:?} is none of older_than, keep_batches, bytes_max and host"
                ));
            }
        };
        if again {
            return Err(format!("{name} is given twice in one rule"));
        }
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_as_they_are_meant_or_refused_with_the_word() {
        let host = HostId([7; 32]);
        let text = format!(" older_than=90d;host={host} older_than=12h keep_batches=5 ; bytes_max=1000;");
        let rules = parse(&text).unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].older_than, Some(day * 90));
        assert_eq!((rules[1].host, rules[1].keep_batches), (Some(host), Some(5)));
        assert_eq!(rules[2].bytes_max, Some(1000));
        let policy = rules[1].policy(WallNanos(100_000_000_000_000));
        assert_eq!(policy.older_than, Some(WallNanos(56_800_000_000_000)));
        assert_eq!(parse(" ; "), Ok(Vec::new()));
        for (bad, word) in [
            ("older_than", "older_than"),
            ("older_than=90", "90"),
            ("older=90d", "older"),
            ("bytes_max=1G", "1G"),
            ("bytes_max=1 bytes_max=2", "twice"),
            ("host=me", "me"),
        ] {
            assert!(parse(bad).unwrap_err().contains(word), "{bad}");
        }
        assert!(parse(&"bytes_max=1;".repeat(65)).is_err());
    }

    fn drawn() -> impl Strategy<Value = Rule> {
        let age = prop_oneof![
            any::<u64>().prop_map(Duration::from_millis),
            any::<u64>().prop_map(Duration::from_secs),
        ];
        let number = || proptest::option::of(any::<u64>());
        let host = proptest::option::of(any::<[u8; 32]>().prop_map(HostId));
        (proptest::option::of(age), number(), number(), host)
            .prop_map(|(older_than, keep_batches, bytes_max, host)| Rule {
                older_than,
                keep_batches,
                bytes_max,
                host,
            })
            .prop_filter("a rule that names nothing is none", |rule| {
                *rule != Rule::default()
            })
    }

    /// Ages were shown as floating-point seconds: 1.5 s did not read back, nor did great ones as the same number.
    #[test]
    fn an_age_is_shown_as_it_is_written() {
        for text in ["older_than=1500ms", "older_than=18446744073709551615s"] {
            assert_eq!(parse(text).unwrap()[0].to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn prop_rules_read_back_as_they_are_shown(rules in proptest::collection::vec(drawn(), 0..=RULES_MAX)) {
            let shown: Vec<String> = rules.iter().map(Rule::to_string).collect();
            prop_assert_eq!(parse(&shown.join("; ")), Ok(rules));
        }

        #[test]
        fn prop_whatever_is_written_is_read_or_refused(
            text in prop_oneof![
                any::<String>(),
                // What lies near a rule.
                "((older_than|keep_batches|bytes_max|host|x)=?[0-9a-f]{0,70}(ms|s|d)?[ ;=]{0,2}){0,6}",
            ],
            now: u64,
        ) {
            for rule in parse(&text).unwrap_or_default() {
                prop_assert!(rule != Rule::default(), "a rule that names nothing would name everything");
                prop_assert_eq!(parse(&rule.to_string()), Ok(vec![rule.clone()]));
                prop_assert!(rule.policy(WallNanos(now)).is_some());
            }
        }
    }
}
