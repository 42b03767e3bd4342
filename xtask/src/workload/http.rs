//! As much of HTTP as the workload needs: `GET /N` is answered with N bytes, connections are held.
//!
//! Owns the counting of bytes as the two ends see them, which the observed flows are held against.
//! No server for anybody else: it refuses more than a few connections and requests beyond a line's
//! length.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write, stdin};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, bail};

/// The longest request or response head that is read, in bytes.
const HEAD_BYTES_MAX: u64 = 4096;
/// The largest body that is served, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One connection as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The server's end.
    pub(crate) server: SocketAddr,
    /// Bytes from client to server.
    pub(crate) sent: u64,
    /// Bytes from server to client.
    pub(crate) received: u64,
    /// The client's process id.
    pub(crate) client_process: u32,
    /// The server's process id.
    pub(crate) server_process: u32,
    /// Where, for the reader.
    pub(crate) place: String,
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} -> {}: {} B sent, {} B received ({})",
            self.client, self.server, self.sent, self.received, self.place
        )
    }
}

impl Exchange {
    /// Reads the line that a client role prints.
    pub(super) fn read(line: &str, [client_process, server_process]: [u32; 2], place: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["fetched", client, server, sent, received] = words[..] else {
            bail!("a client of the workload said {line:?}");
        };
        Ok(Self {
            client: client.parse()?,
            server: server.parse()?,
            sent: sent.parse()?,
            received: received.parse()?,
            client_process,
            server_process,
            place: place.to_owned(),
        })
    }
}

/// The server role: prints one `listening ADDRESS` line for each address, serves until input ends.
pub(super) fn serve(addresses: &[SocketAddr]) -> Result<()> {
    for address in addresses {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        println!("listening {}", listener.local_addr()?);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // A client that breaks off is its own fault and ends its own thread.
                thread::spawn(move || answer(&connection));
            }
        });
    }
    wait_for_end_of_input()
}

/// Answers requests on one connection until the client closes it.
fn answer(connection: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut writer = connection;
    loop {
        let Some(request) = read_head(&mut reader)? else {
            return Ok(());
        };
        let asked = request
            .strip_prefix("GET /")
            .and_then(|rest| rest.split(' ').next());
        let bytes = asked
            .and_then(|n| n.parse::<u64>().ok())
            .filter(|n| *n <= BODY_BYTES_MAX);
        let Some(bytes) = bytes else {
            return writer.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
        io::copy(&mut io::repeat(b'x').take(bytes), &mut writer)?;
    }
}

/// The client role: asks once, prints what was exchanged, holds the connection until input ends.
pub(super) fn fetch(address: SocketAddr, bytes: u64) -> Result<()> {
    let connection = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let request = format!("GET /{bytes} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    (&connection).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(&connection);
    let head = read_head(&mut reader)?.context("the server closed the connection without an answer")?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: u64 = length.context("an answer without a length")?.trim().parse()?;
    let body = io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
    if body != bytes {
        bail!("asked for {bytes} bytes, got {body}");
    }
    let received = u64::try_from(head.len())? + body;
    let (client, server) = (connection.local_addr()?, connection.peer_addr()?);
    println!("fetched {client} {server} {} {received}", request.len());
    wait_for_end_of_input()
}

/// Reads up to the empty line and returns all of it; nothing at a clean end.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = reader.take(HEAD_BYTES_MAX);
    loop {
        match limited.read_line(&mut head)? {
            0 if head.is_empty() => return Ok(None),
            0 => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a head without an end",
                ));
            }
            _ if head.ends_with("\r\n\r\n") => return Ok(Some(head)),
            _ => {}
        }
    }
}

fn wait_for_end_of_input() -> Result<()> {
    io::copy(&mut stdin().lock(), &mut io::sink()).context("standard input")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_line_is_read_and_another_refused() {
        let exchange = Exchange::read("fetched 127.0.0.1:5 [::1]:80 40 1000", [1, 2], "loopback").unwrap();
        assert_eq!((exchange.sent, exchange.received), (40, 1000));
        assert!(Exchange::read("fetched nothing", [1, 2], "loopback").is_err());
        assert!(Exchange::read("", [1, 2], "loopback").is_err());
    }

    #[test]
    fn heads_end_at_the_empty_line_and_endless_ones_are_refused() {
        let mut two = &b"GET /1 HTTP/1.1\r\n\r\nrest"[..];
        assert_eq!(read_head(&mut two).unwrap().unwrap(), "GET /1 HTTP/1.1\r\n\r\n");
        assert!(read_head(&mut &b""[..]).unwrap().is_none());
        let endless = vec![b'a'; 10_000];
        assert!(read_head(&mut &endless[..]).is_err());
    }

    #[test]
    fn a_server_gives_exactly_the_bytes_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || answer(&listener.accept().unwrap().0));
        let connection = TcpStream::connect(address).unwrap();
        (&connection).write_all(b"GET /12345 HTTP/1.1\r\n\r\n").unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        (&connection).read_to_end(&mut all).unwrap();
        assert!(all.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"));
        assert_eq!(all.iter().filter(|byte| **byte == b'x').count(), 12_345);
        server.join().unwrap().unwrap();
    }
}
