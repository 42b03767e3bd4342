//! Somebody who takes checkpoints over HTTP: bounded in time and length, whatever he answers.

use std::{io::Read, time::Duration};

use super::AnchorFault;
use crate::https::{Https, in_words};

/// One place to post to.
#[derive(Debug)]
pub(super) struct Remote {
    agent: ureq::Agent,
    url: String,
}

impl Remote {
    pub(super) fn new(url: &str, timeout: Duration, https: &Https) -> Self {
        Self {
            agent: https.client(timeout),
            url: url.to_owned(),
        }
    }

    /// The URL without what may be secret in it: user, password, query.
    pub(super) fn shown(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}{path}")
    }

    /// Posts `body` and returns the answer, of which at most `answer_max` bytes may come; none is read where that is 0.
    pub(super) fn post(
        &self,
        content_type: &str,
        body: &[u8],
        answer_max: usize,
    ) -> Result<Vec<u8>, AnchorFault> {
        let unreachable = |error: &dyn std::fmt::Display| AnchorFault::Unreachable(in_words(error));
        let mut answer = self
            .agent
            .post(&self.url)
            .content_type(content_type)
            .send(body)
            .map_err(|error| unreachable(&error))?;
        let status = answer.status().as_u16();
        if !(200..300).contains(&status) {
            return Err(AnchorFault::Status(status));
        }
        // One byte more than is taken, so that what is too long is told from what is not.
        let mut read = Vec::new();
        if answer_max > 0 {
            let mut bounded = answer.body_mut().as_reader().take(answer_max as u64 + 1);
            bounded
                .read_to_end(&mut read)
                .map_err(|error| unreachable(&error))?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_an_address_are_not_shown() {
        let check = |url, shown| {
            let remote = Remote::new(url, Duration::from_secs(1), &Https::public());
            assert_eq!(remote.shown(), shown);
        };
        check("http://tsa.example/stamp", "http://tsa.example/stamp");
        check(
            "https://me:secret@sink.example:8443/a/b?token=x#y",
            "https://sink.example:8443/a/b",
        );
        check("https://sink.example?token=a@b", "https://sink.example");
    }
}
