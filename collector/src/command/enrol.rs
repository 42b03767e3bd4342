//! `enrol`: certify an agent's key and register its host.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::json;

use super::{Dir, Outcome, now, print, rfc3339, settings::Settings};
use crate::{
    config::Config,
    enrolment::{self, Names},
    files,
    pki::{Authority, REQUEST_BYTES_MAX, Request},
};

/// Arguments of `enrol`.
#[derive(clap::Args)]
pub(super) struct Enrol {
    #[command(flatten)]
    dir: Dir,
    /// The agent's certificate request (PKCS #10, PEM), as `hostledger-agent init` writes it.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// Where tls.crt, ca.crt and ledger.vkey go, best the agent's own directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What people call the host; the request's common name when left out.
    #[arg(long)]
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Enrol {
    pub(super) fn run(self) -> Outcome {
        let layout = self.dir.layout();
        let config = Config::load(&layout.config(), std::env::vars(), &self.settings.0)?;
        let request = Request::parse(&files::read_text(&self.csr, REQUEST_BYTES_MAX)?)
            .with_context(|| format!("certificate request {}", self.csr.display()))?;
        let issued = Authority::open(&layout)?.issue(&request, now(), config.certificate_lifetime)?;
        let not_after = rfc3339(issued.validity.until.unix_timestamp());
        let names = Names {
            given: self.name.as_deref(),
            requested: request.name.as_deref(),
        };
        let at = rfc3339((now().0 / 1_000_000_000).cast_signed());
        let registration = enrolment::enrol(&layout, &issued, &names, &at, &not_after, &self.out)?;
        let value = json!({
            "host": registration.host,
            "name": registration.name,
            "serial": issued.serial,
            "not_after": not_after,
            "out": self.out,
        });
        print(self.json, &value, || {
            format!(
                "Registered {} as {:?}\ncertificate  {}, valid until {not_after}\nwritten to   {}",
                registration.host,
                registration.name,
                issued.serial,
                self.out.display()
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
