//! Those who take checkpoints: a time stamping authority made with OpenSSL, and a sink; both behave as they are told.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use crate::process::PATIENCE;

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Good,
    /// Answers with what it answered last: a good stamp of another request.
    Replay,
    /// Stamps other bytes under the request's nonce.
    OtherBytes,
    /// Grants nothing: status *rejection*.
    Refuse,
    /// Signs with an authority's key that nobody trusts.
    OtherAuthority,
    /// Signs with a certificate that is not for time stamping alone.
    OtherPurpose,
    Garbage,
    NoHttp,
    Status(u16),
    Huge,
    /// Reads and never answers.
    Silent,
    /// Closes at once.
    Closed,
}

/// Head and body of a request.
pub(crate) type Posted = (String, Vec<u8>);

/// One HTTP server on a thread.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    /// What was posted and accepted.
    pub(crate) taken: Arc<Mutex<Vec<Posted>>>,
}

impl Server {
    /// Answers each request with what `answer` makes of it.
    fn start(mut answer: impl FnMut(Mode, &[u8]) -> (&'static str, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(Mode::Good));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (told, kept) = (Arc::clone(&mode), Arc::clone(&taken));
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mode = *told.lock().unwrap();
                if mode == Mode::Closed {
                    continue;
                }
                let Some((head, body)) = read_request(&stream) else {
                    continue;
                };
                match mode {
                    Mode::Silent => {
                        held.push(stream);
                        continue;
                    }
                    Mode::NoHttp => {
                        let _ = stream.write_all(b"220 this is no HTTP\r\n");
                        continue;
                    }
                    Mode::Status(status) => {
                        let head = format!(
                            "HTTP/1.1 {status} no\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\
                             Connection: close\r\n\r\n"
                        );
                        let _ = stream.write_all(head.as_bytes());
                        continue;
                    }
                    _ => {}
                }
                let (kind, answer) = answer(mode, &body);
                let length = answer.len();
                let line = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                if stream
                    .write_all(line.as_bytes())
                    .and_then(|()| stream.write_all(&answer))
                    .is_ok()
                {
                    kept.lock().unwrap().push((head, body));
                }
            }
        });
        Self { address, mode, taken }
    }

    pub(crate) fn behave(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// A sink of checkpoints.
    pub(crate) fn sink() -> Self {
        Self::start(|mode, _| match mode {
            Mode::Huge => ("text/plain", vec![b'x'; 8 << 20]),
            _ => ("text/plain", b"thanks\n".to_vec()),
        })
    }
}

fn read_request(stream: &TcpStream) -> Option<Posted> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// A time stamping authority made with OpenSSL, behind HTTP.
pub(crate) struct Authority {
    pub(crate) dir: PathBuf,
    pub(crate) server: Server,
}

/// Runs `openssl` in `dir`.
pub(crate) fn openssl(dir: &Path, words: &str) -> (bool, String) {
    let done = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("openssl, which every Debian has");
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

const CONFIGURATION: &str = "
[tsa]
default_tsa = one
[one]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
[ca]
basicConstraints = critical,CA:TRUE
[stamp]
basicConstraints = CA:FALSE
extendedKeyUsage = critical,timeStamping
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = critical,timeStamping,serverAuth
[req]
distinguished_name = dn
[dn]
";

impl Authority {
    /// A new one: an RSA key under a certificate authority of its own, and what else its modes need.
    pub(crate) fn start(dir: &Path) -> Self {
        let dir = dir.join("tsa");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("tsa.cnf"), CONFIGURATION).unwrap();
        fs::write(dir.join("serial"), "01\n").unwrap();
        fs::write(dir.join("other"), "other bytes").unwrap();
        let run = |words: &str| {
            let (fine, said) = openssl(&dir, words);
            assert!(fine, "openssl {words}: {said}");
        };
        for ca in ["ca", "other-ca"] {
            run(&format!("ecparam -name prime256v1 -genkey -noout -out {ca}.key"));
            run(&format!(
                "req -x509 -new -key {ca}.key -subj /CN=test-ca -days 30 -out {ca}.crt -config tsa.cnf -extensions ca"
            ));
        }
        for (name, ca, kind) in [
            ("one", "ca", "stamp"),
            ("two", "other-ca", "stamp"),
            ("web", "ca", "server"),
        ] {
            run(&format!("genrsa -out {name}.key 2048"));
            run(&format!(
                "req -new -key {name}.key -subj /CN={name} -out {name}.csr -config tsa.cnf"
            ));
            run(&format!(
                "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -set_serial 2 -days 30 -extfile tsa.cnf \
                 -extensions {kind} -out {name}.crt"
            ));
        }
        let home = dir.clone();
        let mut last = Vec::new();
        let server = Server::start(move |mode, query| {
            let kind = "application/timestamp-reply";
            match mode {
                Mode::Replay => return (kind, last.clone()),
                Mode::Garbage => return (kind, b"\x30\x82\x00\x01no answer at all".to_vec()),
                Mode::Huge => return (kind, vec![0x30; 8 << 20]),
                Mode::OtherBytes => fs::write(home.join("query"), other_imprint(query)).unwrap(),
                // SHA-1 of nothing: an algorithm that this authority does not take.
                Mode::Refuse => fs::write(home.join("query"), sha1_query()).unwrap(),
                _ => fs::write(home.join("query"), query).unwrap(),
            }
            let signer = match mode {
                Mode::OtherAuthority => "two",
                Mode::OtherPurpose => "web",
                _ => "one",
            };
            let words = format!(
                "ts -reply -config tsa.cnf -queryfile query -signer {signer}.crt -inkey {signer}.key -out reply"
            );
            let (fine, said) = openssl(&home, &words);
            // OpenSSL refuses to sign with a certificate that is not for time stamping alone, as it should.
            assert!(fine || mode == Mode::OtherPurpose, "{said}");
            let reply = fs::read(home.join("reply")).unwrap();
            if mode == Mode::Good {
                last.clone_from(&reply);
            }
            (kind, reply)
        });
        Self { dir, server }
    }
}

/// The same request with another imprint.
fn other_imprint(query: &[u8]) -> Vec<u8> {
    let mut other = query.to_vec();
    let at = other.windows(2).position(|bytes| bytes == [4, 32]).unwrap();
    other[at + 2] ^= 1;
    other
}

fn sha1_query() -> Vec<u8> {
    let mut query = vec![
        0x30, 0x29, 2, 1, 1, 0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20,
    ];
    query.extend_from_slice(&[7; 20]);
    query.extend_from_slice(&[1, 1, 0xff]);
    query
}
