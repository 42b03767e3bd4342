//! Query parameters: each is read once, what nobody read is refused, so that a misspelt one is no silent
//! nothing.

use common::{event::Kind, ids::WallNanos};

use crate::query::{Filter, Paging, QueryError, StatementFilter};

/// Most parameters of a request.
const PARAMS_MAX: usize = 256;

/// The parameters not read yet.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn parse(raw: &str) -> Result<Self, QueryError> {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let mut params = Vec::new();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read = decode(name).zip(decode(value));
            params.push(read.ok_or_else(|| bad(format!("`{pair}` is not percent-encoded text")))?);
            if params.len() > PARAMS_MAX {
                return Err(bad(format!("more than {PARAMS_MAX} parameters")));
            }
        }
        Ok(Self(params))
    }

    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let (found, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(found, _)| found == name);
        self.0 = rest;
        let found: Vec<(String, String)> = found;
        found.into_iter().map(|(_, value)| value).collect()
    }

    pub(super) fn one(&mut self, name: &str) -> Result<Option<String>, QueryError> {
        let mut found = self.all(name);
        match found.len() {
            0 | 1 => Ok(found.pop()),
            more => Err(bad(format!("`{name}` is given {more} times"))),
        }
    }

    fn numbers<N: std::str::FromStr>(&mut self, name: &str) -> Result<Vec<N>, QueryError> {
        self.all(name)
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| bad(format!("`{name}` is no such number: `{text}`")))
            })
            .collect()
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, QueryError> {
        let text = self.one(name)?;
        text.map(|text| text.parse().map_err(|_| bad(format!("`{name}` is no number"))))
            .transpose()
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String, QueryError> {
        self.one(name)?.ok_or_else(|| bad(format!("`{name}` is missing")))
    }

    pub(super) fn hosts(&mut self) -> Vec<String> {
        self.all("host")
    }

    pub(super) fn kind(&mut self) -> Result<Kind, QueryError> {
        let name = self.required("kind")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            bad(format!("`kind` is none of {}", names.join(", ")))
        })
    }

    pub(super) fn statements(&mut self) -> Result<StatementFilter, QueryError> {
        let kinds = self.all("kind");
        let kinds = kinds.iter().map(|name| {
            common::statement::Kind::named(name)
                .ok_or_else(|| bad(format!("`kind` names no kind of statement: `{name}`")))
        });
        Ok(StatementFilter {
            kinds: kinds.collect::<Result<_, _>>()?,
            hosts: self.hosts(),
            since: self.instant("since")?,
            until: self.instant("until")?,
        })
    }

    pub(super) fn paging(&mut self) -> Result<Paging, QueryError> {
        let limit = self.one("limit")?.map(|text| text.parse());
        Ok(Paging {
            limit: limit
                .transpose()
                .map_err(|_| bad("`limit` is no number".into()))?,
            cursor: self.one("cursor")?,
        })
    }

    pub(super) fn filter(&mut self) -> Result<Filter, QueryError> {
        Ok(Filter {
            pid: self.numbers("pid")?,
            exe: self.all("exe"),
            port: self.numbers("port")?,
        })
    }

    pub(super) fn instant(&mut self, name: &str) -> Result<Option<WallNanos>, QueryError> {
        let Some(text) = self.one(name)? else {
            return Ok(None);
        };
        let parsed: Option<u64> = text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|instant| u64::try_from(instant.as_nanosecond()).ok());
        let shown: String = text.chars().take(80).collect();
        parsed
            .map(|ns| Some(WallNanos(ns)))
            .ok_or_else(|| QueryError::BadRequest {
                cause: format!("`{name}` is no instant: `{shown}`"),
                remedy: "write it in RFC 3339 with an offset, e.g. 2026-01-02T03:04:05.678Z, from 1970 on"
                    .into(),
            })
    }

    /// Refuses what nobody read.
    pub(super) fn finish(&mut self) -> Result<(), QueryError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!("parameter `{name}` is not known here"))),
        }
    }
}

fn bad(cause: String) -> QueryError {
    QueryError::BadRequest {
        cause,
        remedy: "see docs/api.md for the parameters of this path".into(),
    }
}

/// Percent-decoding with `+` as a space, as forms do; `None` for what does not decode to text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_decode_and_leftovers_are_refused() {
        let mut params = Params::parse("host=a%2Fb&host=c+d&at=1970-01-01T00:00:01%2B01:00&limit=5").unwrap();
        assert_eq!(params.hosts(), ["a/b", "c d"]);
        assert!(params.instant("at").is_err(), "before 1970");
        assert_eq!(params.paging().unwrap().limit, Some(5));
        params.finish().unwrap();
        let mut params = Params::parse("att=now").unwrap();
        assert!(params.finish().unwrap_err().to_string().contains("`att`"));
        for bad in ["%", "%2", "%zz", "%ff=1"] {
            assert!(Params::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_carry_an_offset_and_nanoseconds() {
        let mut params = Params::parse("at=2026-01-02T04:04:05.000000006%2B01:00").unwrap();
        let at = params.instant("at").unwrap().unwrap();
        assert_eq!(
            common::answer::Moment(at).to_string(),
            "2026-01-02T03:04:05.000000006Z"
        );
    }
}
