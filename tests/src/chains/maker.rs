//! A host made from a number: it seals by the real code whatever it is told, and can go on where a ledger has it.

use common::{
    batch::{
        ChainHead, ClockSource, HeaderFields, HeaderFlags, SensorCounters, UnverifiedHeader, VerifiedHeader,
        encode_body, sign_header,
    },
    event::Event,
    ids::{BootId, Hash, HostId, KeyEpoch, Nonce, PublicKey},
};
use ed25519_dalek::SigningKey;

use super::{BOOT, boot, wall};

/// A host that seals what it is told.
#[derive(Debug, Clone)]
pub struct Maker {
    seed: u8,
    key: SigningKey,
    next: SigningKey,
    epoch: KeyEpoch,
    head: ChainHead,
    /// The boot that is watched.
    pub boot: BootId,
    /// What the headers to come count.
    pub sensors: Vec<SensorCounters>,
    /// What was sealed: headers and bodies, not taken yet.
    pub sealed: Vec<(Vec<u8>, Vec<u8>)>,
}

#[expect(
    clippy::unwrap_used,
    reason = "test support: a batch that cannot be sealed fails the test"
)]
impl Maker {
    /// A host whose key comes from `seed`.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let key = epoch_key(seed, 0);
        let host = HostId::of_genesis_key(&PublicKey(key.verifying_key().to_bytes()));
        Self {
            seed,
            key,
            next: epoch_key(seed, 1),
            epoch: KeyEpoch(0),
            head: ChainHead::genesis(host),
            boot: BOOT,
            sensors: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// The same host behind this header of its.
    ///
    /// # Panics
    /// Where its chain cannot go on.
    #[must_use]
    pub fn behind(seed: u8, header: &VerifiedHeader) -> Self {
        let epoch = header.fields().key_epoch;
        Self {
            key: epoch_key(seed, epoch.0),
            next: epoch_key(seed, epoch.0 + 1),
            epoch,
            head: ChainHead::after(header).unwrap(),
            ..Self::new(seed)
        }
    }

    /// Its id.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.head.host
    }

    /// The hash of its last header.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head.hash
    }

    /// Batches sealed so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.head.next_sequence.0
    }

    /// Replaces the key: what is sealed from now on is of the next epoch.
    pub fn ratchet(&mut self) -> &mut Self {
        self.epoch.0 += 1;
        let after = epoch_key(self.seed, self.epoch.0 + 1);
        self.key = std::mem::replace(&mut self.next, after);
        self
    }

    /// Seals a batch that watched `from..=until` (milliseconds).
    ///
    /// # Panics
    /// Where the test asks for what cannot be sealed.
    pub fn seal(&mut self, flags: HeaderFlags, from: u64, until: u64, events: &[Event]) -> &mut Self {
        let (header, body, _) = self.sign(flags, from, until, events);
        self.sealed.push((header.bytes().to_vec(), body));
        self.head.accept(header).unwrap();
        self
    }

    /// The same without checking its own signature, which costs most: for millions of batches.
    ///
    /// # Panics
    /// Where the test asks for what cannot be sealed.
    pub fn seal_unchecked(
        &mut self,
        flags: HeaderFlags,
        from: u64,
        until: u64,
        events: &[Event],
    ) -> &mut Self {
        let (header, body, fields) = self.sign(flags, from, until, events);
        self.sealed.push((header.bytes().to_vec(), body));
        self.head = ChainHead {
            host: fields.host,
            next_sequence: fields.sequence.checked_add(1).unwrap(),
            next_event: fields.first_event.checked_add(events.len() as u64).unwrap(),
            hash: header.hash(),
            keys: self.head.keys.follow(&fields.host, &fields.keys()).unwrap(),
        };
        self
    }

    fn sign(
        &self,
        flags: HeaderFlags,
        from: u64,
        until: u64,
        events: &[Event],
    ) -> (UnverifiedHeader, Vec<u8>, HeaderFields) {
        let encoded: Vec<Vec<u8>> = events.iter().map(|event| event.encode().unwrap()).collect();
        let (body, events_root, tags_hash) = encode_body(&encoded).unwrap();
        let fields = HeaderFields {
            flags,
            host: self.head.host,
            key_epoch: self.epoch,
            public_key: PublicKey(self.key.verifying_key().to_bytes()),
            next_public_key: PublicKey(self.next.verifying_key().to_bytes()),
            sequence: self.head.next_sequence,
            first_event: self.head.next_event,
            event_count: u32::try_from(events.len()).unwrap(),
            body_bytes: u32::try_from(body.len()).unwrap(),
            previous: self.head.hash,
            events_root,
            tags_hash,
            boot: self.boot,
            from_boot: boot(from),
            until_boot: boot(until),
            from_wall: wall(from),
            until_wall: wall(until),
            clock_error_ns: 1_500_000,
            clock_source: ClockSource::Synchronised,
            nonce: Nonce::default(),
            sensors: self.sensors.clone(),
        };
        (sign_header(&fields, &self.key).unwrap(), body, fields)
    }
}

/// The key of an epoch of the host made from `seed`.
fn epoch_key(seed: u8, epoch: u64) -> SigningKey {
    let mut bytes = [seed; 32];
    bytes[..8].copy_from_slice(&(epoch + u64::from_be_bytes([seed; 8])).to_be_bytes());
    SigningKey::from_bytes(&bytes)
}
