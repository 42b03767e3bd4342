//! A host that misbehaves in every way that is stated, over and over, while faults strike the collector.
//!
//! Owns its key and its chain, and what it would say. Each thing is done again until the run is over, as an agent that
//! is refused connects again: stated once is what it must be all the same. When and how it is delivered is the world's.

use common::{
    batch::{ChainHead, ClockSource, HeaderFields, HeaderFlags, UnverifiedHeader, encode_body, sign_header},
    ids::{BootId, BootNanos, Hash, HostId, KeyEpoch, Nonce, PublicKey, Sequence, WallNanos},
    session::{Hello, Message, PROTOCOL_VERSION},
};
use ed25519_dalek::SigningKey;

use crate::{rng::Rng, watch::WALL_ORIGIN};

/// What it does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Sends what the collector lacks, and a batch more.
    Send,
    /// The same, and the last batch's clock is a year ahead.
    Ahead,
    /// The same, and the last batch's clock is a year behind the collector's, whose word it repeats.
    Late,
    /// Offers another batch under the first sequence.
    Twin,
    /// Says that its chain has one batch.
    Behind,
}

#[derive(Debug)]
pub(crate) struct Rogue {
    key: SigningKey,
    pub(crate) host: HostId,
    /// Its chain, from sequence 0.
    chain: Vec<(UnverifiedHeader, Vec<u8>)>,
    head: ChainHead,
    twin: (UnverifiedHeader, Vec<u8>),
    /// Connections it has made.
    pub(crate) connections: u64,
}

impl Rogue {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let key = SigningKey::from_bytes(&rng.bytes32());
        let host = HostId::of_genesis_key(&PublicKey(key.verifying_key().to_bytes()));
        let head = ChainHead::genesis(host);
        let first = (1, WallNanos(WALL_ORIGIN + 1), Nonce::default());
        let twin = sealed(&key, &head, first, b"another");
        let mut rogue = Self {
            key,
            host,
            chain: Vec::new(),
            head,
            twin,
            connections: 0,
        };
        rogue.seal(first.0, first.1, first.2);
        rogue
    }

    fn seal(&mut self, at: u64, wall: WallNanos, nonce: Nonce) {
        let number = self.chain.len().to_be_bytes();
        let (header, body) = sealed(&self.key, &self.head, (at, wall, nonce), &number);
        self.head.accept(header.clone()).unwrap();
        self.chain.push((header, body));
    }

    /// The header that it sent first, and the one it denies by it.
    pub(crate) fn twins(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |header: &UnverifiedHeader| header.bytes().to_vec();
        (bytes(&self.chain[0].0), bytes(&self.twin.0))
    }

    /// Its first message.
    pub(crate) fn hello(&self, deed: Deed) -> Vec<u8> {
        let (next, head) = match deed {
            Deed::Behind => (Sequence(1), self.chain[0].0.hash()),
            _ => (self.head.next_sequence, self.head.hash),
        };
        let hello = Hello {
            version: PROTOCOL_VERSION,
            host: self.host,
            agent_version: "rogue".to_owned(),
            next,
            head,
            oldest: Sequence(0),
            seen_size: 0,
            seen_root: Hash::default(),
        };
        Message::Hello(hello).encode().unwrap()
    }

    /// What it sends once it is welcome; the collector awaits batch `next`, and gave `nonce`.
    pub(crate) fn batches(&mut self, deed: Deed, next: Sequence, nonce: Nonce, now: u64) -> Vec<Vec<u8>> {
        const YEAR: u64 = 31_536_000_000_000_000;
        let held = usize::try_from(next.0).unwrap();
        let sent: Vec<&(UnverifiedHeader, Vec<u8>)> = match deed {
            Deed::Behind => Vec::new(),
            Deed::Twin => vec![&self.twin],
            Deed::Send | Deed::Ahead | Deed::Late => {
                // What a crash of the collector's took is sent again before there is more.
                if held == self.chain.len() {
                    let (wall, nonce) = match deed {
                        Deed::Ahead => (WALL_ORIGIN + now + YEAR, Nonce::default()),
                        Deed::Late => (WALL_ORIGIN + now - YEAR, nonce),
                        _ => (WALL_ORIGIN + now, Nonce::default()),
                    };
                    self.seal(now, WallNanos(wall), nonce);
                }
                self.chain[held..].iter().collect()
            }
        };
        let message = |(header, body): &(UnverifiedHeader, Vec<u8>)| Message::Batch {
            header: header.bytes().to_vec(),
            body: body.clone(),
        };
        sent.into_iter()
            .map(|batch| message(batch).encode().unwrap())
            .collect()
    }
}

/// A batch behind `head`, watched at this instant and signed; each looks as if it were a run of its own.
fn sealed(
    key: &SigningKey,
    head: &ChainHead,
    (at, wall, nonce): (u64, WallNanos, Nonce),
    word: &[u8],
) -> (UnverifiedHeader, Vec<u8>) {
    let (body, events_root, tags_hash) = encode_body(&[word.to_vec()]).unwrap();
    let fields = HeaderFields {
        flags: HeaderFlags {
            first_since_start: true,
            ..HeaderFlags::default()
        },
        host: head.host,
        key_epoch: KeyEpoch(0),
        public_key: PublicKey(key.verifying_key().to_bytes()),
        next_public_key: PublicKey([7; 32]),
        sequence: head.next_sequence,
        first_event: head.next_event,
        event_count: 1,
        body_bytes: u32::try_from(body.len()).unwrap(),
        previous: head.hash,
        events_root,
        tags_hash,
        boot: BootId([9; 16]),
        from_boot: BootNanos(at),
        until_boot: BootNanos(at),
        from_wall: wall,
        until_wall: wall,
        clock_error_ns: 0,
        clock_source: ClockSource::Synchronised,
        nonce,
        sensors: Vec::new(),
    };
    (sign_header(&fields, key).unwrap(), body)
}
