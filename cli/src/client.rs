//! The collector's API as a client sees it.

use std::time::Duration;

use common::answer::ApiError;
use serde::de::DeserializeOwned;

use crate::Failure;

/// Longest answer read, bytes: a full page of the largest rows.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Parameters of a request.
pub(crate) type Params = Vec<(&'static str, String)>;

/// A collector.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    /// The collector at `url`.
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/');
        if url.strip_prefix("http://").is_none_or(str::is_empty) {
            return Err(Failure::Config {
                cause: format!("`{url}` is no URL of a collector"),
                remedy: "write it as http://HOST:PORT; put a local proxy before a collector behind TLS"
                    .into(),
            });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("hostledger/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            url: url.to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The JSON answer at a path of the API.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, params: &Params) -> Result<T, Failure> {
        let bytes = self.bytes(path, params)?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Answer(error.to_string()))
    }

    /// The bytes at a path of the API.
    pub(crate) fn bytes(&self, path: &str, params: &Params) -> Result<Vec<u8>, Failure> {
        let unreachable = |error: ureq::Error| Failure::Unreachable {
            url: self.url.clone(),
            cause: error.to_string(),
        };
        let mut request = self.agent.get(format!("{}/v1/{path}", self.url));
        for (name, value) in params {
            request = request.query(*name, value);
        }
        let mut response = request.call().map_err(unreachable)?;
        let status = response.status().as_u16();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(unreachable)?;
        if status == 200 {
            return Ok(bytes);
        }
        match serde_json::from_slice::<ApiError>(&bytes) {
            Ok(error) => Err(Failure::Refused { status, error }),
            Err(_) => Err(Failure::Answer(format!("status {status} and no reason"))),
        }
    }
}
