//! The real collector as a child process, and hosts that it welcomes.

use std::{
    error::Error,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use collector::{ingest::tls::ALPN, layout::Layout, pki::host_uri};
use common::ids::HostId;
use quinn::{ClientConfig, crypto::rustls::QuicClientConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

/// What may go wrong.
pub type Failed = Box<dyn Error + Send + Sync>;

/// A running collector, which ends whatever happens.
pub struct Running {
    child: Child,
    /// Where agents connect to.
    pub ingest: SocketAddr,
    /// Where HTTP clients do.
    pub http: SocketAddr,
}

impl Running {
    /// Starts `program` over a directory that was initialised, and waits until it listens.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn start(program: &Path, layout: &Layout) -> Result<Self, Failed> {
        // Whatever ends this program ends the collector as well.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .arg("run")
            .arg("--dir")
            .arg(layout.root())
            .args(["--log", "warn"])
            .args(["--ingest-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let at = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.ok_or_else(|| format!("the collector did not say where it listens, but {line:?}"))
        };
        Ok(Self {
            ingest: at("ingest=")?.parse()?,
            http: at("http=")?.parse()?,
            child,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It ends otherwise.
    pub fn stop(mut self) -> Result<(), Failed> {
        command(Path::new("kill"), &["-TERM", &self.pid().to_string()])?;
        let ended = self.child.wait()?;
        if ended.success() {
            Ok(())
        } else {
            Err(format!("the collector ended with {ended}").into())
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Errors
/// What it says on standard error where it does not succeed.
pub fn command(program: &Path, words: &[&str]) -> Result<(), Failed> {
    let done = Command::new(program).args(words).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned().into())
    }
}

/// Enrols a host by the real command; leaves its files in `folder`.
///
/// # Errors
/// The command refuses.
pub fn enrol(program: &Path, layout: &Layout, folder: &Path, host: &HostId) -> Result<ClientConfig, Failed> {
    let tls_key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(host_uri(host).as_str().try_into()?)];
    let request = folder.join(format!("{host}.csr"));
    let out = folder.join(format!("{host}.out"));
    std::fs::write(&request, params.serialize_request(&tls_key)?.pem()?)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (root, request, out_text) = (text(layout.root()), text(&request), text(&out));
    command(
        program,
        &["enrol", "--dir", &root, "--csr", &request, "--out", &out_text],
    )?;

    let certificate = |path: &Path| CertificateDer::from_pem_file(path);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&layout.ca_certificate())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate(&out.join("tls.crt"))?],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(tls_key.serialize_der())),
        )?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)))
}
