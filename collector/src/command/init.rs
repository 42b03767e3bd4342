//! `init`: a new collector's directory.

use std::{net::IpAddr, process::ExitCode};

use serde_json::json;

use super::{Dir, Outcome, now, print, settings::Settings};
use crate::{
    config::{self, Config},
    files::{self, PUBLIC},
    keys,
    pki::{self, ServerName},
};

/// Arguments of `init`.
#[derive(clap::Args)]
pub(super) struct Init {
    #[command(flatten)]
    dir: Dir,
    /// The ledger's origin: the name in its checkpoints, best a domain you own and a path.
    #[arg(long, default_value = "hostledger.invalid/ledger")]
    origin: String,
    /// A host name or address by which agents reach this collector; may be repeated. localhost, 127.0.0.1,
    /// ::1 and the address of ingest_listen are always included.
    #[arg(long, value_name = "HOST|IP")]
    name: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Init {
    pub(super) fn run(self) -> Outcome {
        let layout = self.dir.layout();
        // Refuse unusable settings before any key is made.
        let config = Config::load(&layout.config(), std::iter::empty(), &self.settings.0)?;
        let mut names: Vec<ServerName> = vec![
            ServerName::Dns("localhost".to_owned()),
            ServerName::Ip(IpAddr::from([127, 0, 0, 1])),
            ServerName::Ip(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ];
        let own = config.ingest_listen.ip();
        if !own.is_unspecified() {
            names.push(ServerName::Ip(own));
        }
        for name in &self.name {
            names.push(name.parse()?);
        }
        names.sort();
        names.dedup();
        pki::init(&layout, &self.origin, &names, now())?;
        keys::init(&layout)?;
        files::create(
            &layout.config(),
            config::template(&self.settings.0).as_bytes(),
            PUBLIC,
        )?;
        let vkey = std::fs::read_to_string(layout.ledger_verifier())?;
        let value = json!({
            "dir": layout.root(),
            "config": layout.config(),
            "ca": layout.ca_certificate(),
            "ledger": layout.ledger(),
            "verifier_key": vkey.trim(),
            "offline_key": layout.offline_key(),
            "names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        print(self.json, &value, || {
            let dir = layout.root().display();
            format!(
                "New collector in {dir}\n\
                 ledger verifier key  {}\n\
                 certificate names    {}\n\
                 offline key          {}\n\
                 \x20 move it to where no collector runs: it is needed only to replace or revoke the ledger's key\n\
                 next: hostledger-collector enrol --dir {dir} --csr AGENT.csr --out AGENT_DIR\n\
                 then: hostledger-collector run --dir {dir}",
                vkey.trim(),
                names
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
                layout.offline_key().display(),
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
