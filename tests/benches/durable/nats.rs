//! A publisher of JetStream, by the text of its client protocol: as many connections as there are hosts, each
//! with the same window.

use std::time::Instant;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
};

use super::{HOSTS, Load, Outcome, Sent, hosts, print};

pub(super) async fn measure(address: &str, load: Load) -> Outcome {
    let mut admin = Connection::open(address, 0).await?;
    let stream =
        br#"{"name":"bench","subjects":["bench.*"],"storage":"file","retention":"limits","num_replicas":1}"#;
    admin.publish("$JS.API.STREAM.CREATE.bench", 0, stream).await?;
    let (_, answer) = admin.answer().await?;
    if answer.contains("\"error\"") {
        return Err(answer.into());
    }
    let mut ready = Vec::new();
    for host in 1..=HOSTS {
        ready.push((
            Connection::open(address, host).await?,
            hosts::payloads(host, load.batches())?,
        ));
    }
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for (connection, payloads) in ready {
        running.spawn(connection.run(payloads, load));
    }
    let mut waits = Vec::new();
    while let Some(done) = running.join_next().await {
        waits.extend(done??);
    }
    print("nats", begun.elapsed(), waits);
    Ok(())
}

struct Connection {
    host: u8,
    read: BufReader<OwnedReadHalf>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Connection {
    async fn open(address: &str, host: u8) -> Outcome<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (read, mut write) = socket.into_split();
        let options = r#"CONNECT {"verbose":false,"pedantic":false,"headers":false}"#;
        write
            .write_all(format!("{options}\r\nSUB _INBOX.{host}.* 1\r\n").as_bytes())
            .await?;
        Ok(Self {
            host,
            read: BufReader::new(read),
            write,
        })
    }

    async fn publish(&mut self, subject: &str, number: usize, payload: &[u8]) -> Outcome {
        let line = format!(
            "PUB {subject} _INBOX.{}.{number} {}\r\n",
            self.host,
            payload.len()
        );
        let whole = [line.as_bytes(), payload, b"\r\n"].concat();
        Ok(self.write.write_all(&whole).await?)
    }

    /// The next message to our inbox: what it answers, and its text.
    async fn answer(&mut self) -> Outcome<(usize, String)> {
        loop {
            let mut line = String::new();
            if self.read.read_line(&mut line).await? == 0 {
                return Err("the server hung up".into());
            }
            if line.starts_with("PING") {
                self.write.write_all(b"PONG\r\n").await?;
            } else if line.starts_with("-ERR") {
                return Err(line.into());
            } else if let Some(rest) = line.strip_prefix("MSG ") {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let (Some(subject), Some(length)) = (words.first(), words.last()) else {
                    return Err(line.into());
                };
                let number = subject.rsplit('.').next().unwrap_or_default().parse()?;
                let mut payload = vec![0; length.parse::<usize>()? + 2];
                self.read.read_exact(&mut payload).await?;
                return Ok((number, String::from_utf8(payload)?));
            }
        }
    }

    async fn run(mut self, payloads: Vec<Vec<u8>>, load: Load) -> Outcome<Vec<std::time::Duration>> {
        let subject = format!("bench.{}", self.host);
        let (mut sent, mut waits) = (Sent::new(payloads.len(), load), Vec::new());
        loop {
            while sent.at.len() - waits.len() < load.window && !sent.is_over() {
                let number = sent.at.len();
                sent.at.push(Instant::now());
                self.publish(&subject, number, &payloads[number]).await?;
            }
            if sent.at.len() == waits.len() {
                return Ok(waits);
            }
            let (number, text) = self.answer().await?;
            if !text.contains("\"seq\"") || text.contains("\"error\"") {
                return Err(text.into());
            }
            waits.push(sent.wait_of(number)?);
        }
    }
}
