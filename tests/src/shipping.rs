//! One host's session with a real collector, without spool or patience.

use common::{
    ids::{Hash, HostId, Sequence},
    session::{FrameDecoder, Hello, Message, PROTOCOL_VERSION},
};
use quinn::{Connection, RecvStream, SendStream};

use crate::program::Failed;

/// A session that was opened.
pub struct Session {
    /// Kept open for as long as the streams are used.
    pub connection: Connection,
    /// What the collector is sent.
    pub send: SendStream,
    receive: RecvStream,
    decoder: FrameDecoder,
    /// Batches that may be under way.
    pub window: usize,
}

impl Session {
    /// Says hello for a host that will seal batch `next` behind the header `head` and holds every receipt.
    ///
    /// # Errors
    /// The collector does not welcome it to ship that batch.
    pub async fn open(
        connection: Connection,
        host: HostId,
        (next, head): (Sequence, Hash),
    ) -> Result<Self, Failed> {
        let (send, receive) = connection.open_bi().await?;
        let mut session = Self {
            connection,
            send,
            receive,
            decoder: FrameDecoder::default(),
            window: 0,
        };
        let hello = Hello {
            version: PROTOCOL_VERSION,
            host,
            agent_version: "bench".to_owned(),
            next,
            head,
            oldest: next,
            seen_size: 0,
            seen_root: Hash::default(),
        };
        session.send.write_all(&Message::Hello(hello).encode()?).await?;
        match session.next().await? {
            Message::Welcome(welcome) if welcome.next == next => {
                session.window = usize::try_from(welcome.window.batches)?;
                Ok(session)
            }
            other => Err(format!("not welcome: {other:?}").into()),
        }
    }

    /// What the collector says next, but for its keys.
    ///
    /// # Errors
    /// The session ended.
    pub async fn next(&mut self) -> Result<Message, Failed> {
        loop {
            match self.decoder.next_message()? {
                Some(Message::Keys(_)) => continue,
                Some(message) => return Ok(message),
                None => {}
            }
            let chunk = self.receive.read_chunk(65_536, true).await?;
            self.decoder.push(&chunk.ok_or("the stream ended")?.bytes);
        }
    }
}
