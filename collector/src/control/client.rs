//! The operator's end of the socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use super::{Answer, Question};
use crate::layout::Layout;

/// Why a running collector was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket. The operator: another user's collector, mostly.
    #[error("the collector's control socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// It went away before the last answer.
    #[error("the collector went away before it answered; what is certified goes on after its next start")]
    Gone,
    /// It answers what this program does not understand: another version.
    #[error("the collector answers what this program does not understand; use the program that runs: {0}")]
    Garbled(#[from] serde_json::Error),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
}

/// Asks the collector that runs in this directory; `None` where none runs. `waiting` hears what holds it up.
///
/// # Errors
/// [`AskError`].
pub fn ask(
    layout: &Layout,
    question: &Question,
    waiting: &mut dyn FnMut(&str),
) -> Result<Option<Answer>, AskError> {
    let mut stream = match UnixStream::connect(layout.control()) {
        Ok(stream) => stream,
        // A path too long for a socket never had one.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    stream.write_all(&question.line()?)?;
    for answer in BufReader::new(stream).lines() {
        match serde_json::from_str(&answer?)? {
            Answer::Waiting { words } => waiting(&words),
            Answer::Refused { words } => return Err(AskError::Refused(words)),
            last => return Ok(Some(last)),
        }
    }
    Err(AskError::Gone)
}
