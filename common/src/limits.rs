//! Every bound of the formats and queues, with the relations between them asserted at compile time.

/// Longest event, envelope included, in bytes.
pub const EVENT_BYTES_MAX: usize = 32 * 1024;
/// Longest entity key in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 8 * 1024;
/// Longest batch body in bytes: length table, leaf tags and events.
pub const BATCH_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most per-sensor counters in one header.
pub const HEADER_SENSORS_MAX: usize = 32;
/// Longest signed header in bytes.
pub const HEADER_BYTES_MAX: usize = 1024;
/// Longest entry of a C2SP tlog-tiles entry bundle in bytes (its length prefix is 16 bits wide).
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Longest session message in bytes: a batch and its framing.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BODY_BYTES_MAX + HEADER_BYTES_MAX + 64;
/// Longest argument list kept of a process, in bytes; longer ones are cut and marked.
pub const ARGV_BYTES_MAX: usize = 4 * 1024;
/// Longest path kept, in bytes (Linux `PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4 * 1024;
/// Longest signed note accepted, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Longest answer of a time stamping authority accepted, in bytes.
pub const TSA_RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Most receipts in one session message.
pub const RECEIPTS_MAX: usize = 256;
/// Longest agent version in a session's first message, bytes.
pub const AGENT_VERSION_BYTES_MAX: usize = 64;
/// Longest explanation of a refusal, bytes.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;
/// Longest spool segment file accepted, in bytes; segments are read whole at recovery.
pub const SEGMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest name or reason in a statement of the collector, bytes.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 512;

/// Most ranges of leaves in one prune certificate; more become several certificates.
pub const PRUNE_RANGES_MAX: usize = 4096;
/// Most losses of pruned batches that are kept of one host, for answers about batches that stay.
pub const KEPT_LOSSES_MAX: usize = 65_536;
/// Most hosts that one prune certificate lists; the ranges have the word.
pub const PRUNE_HOSTS_MAX: usize = 128;
/// Most legal holds in force at a time.
pub const HOLDS_MAX: usize = 256;

/// Longest UDP payload tried between agent and collector, bytes: a jumbo frame of 9,000 less IPv6 and UDP
/// headers. Path discovery finds what the network really carries; on loopback it saves most of the packets.
pub const DATAGRAM_BYTES_MAX: u16 = 8_952;

const _: () = {
    assert!(
        NOTE_BYTES_MAX + 65 * 32 + RECEIPTS_MAX * (8 + 8 + 1 + 65 * 32) + 64 <= MESSAGE_BYTES_MAX,
        "a full list of receipts must fit a message"
    );
    assert!(
        crate::ledger_keys::LEDGER_KEYS_BYTES_MAX + 64 <= MESSAGE_BYTES_MAX,
        "a full key history must fit a message"
    );
    assert!(
        crate::ledger_keys::LEDGER_KEY_RECORD_BYTES_MAX + crate::statement::STATEMENT_FIXED_BYTES
            <= ENTRY_BYTES_MAX,
        "a record of a key history must fit a statement"
    );
    assert!(
        BATCH_BODY_BYTES_MAX + HEADER_BYTES_MAX + 256 <= SEGMENT_BYTES_MAX,
        "a batch must fit a segment"
    );
    assert!(
        HEADER_BYTES_MAX <= ENTRY_BYTES_MAX,
        "a header must fit a ledger entry"
    );
    assert!(
        crate::statement::STATEMENT_FIXED_BYTES + 32 + 2 * (2 + HEADER_BYTES_MAX) <= ENTRY_BYTES_MAX,
        "a statement with two headers must fit a ledger entry"
    );
    assert!(
        crate::statement::STATEMENT_FIXED_BYTES
            + (2 + STATEMENT_TEXT_BYTES_MAX)
            + 16
            + (2 + 8 * HOLDS_MAX)
            + (4 + 2 + 64 * PRUNE_HOSTS_MAX)
            + (2 + 12 * PRUNE_RANGES_MAX)
            <= ENTRY_BYTES_MAX,
        "a full prune certificate must fit a ledger entry"
    );
    assert!(
        EVENT_BYTES_MAX + 4 + 4 + 8 <= BATCH_BODY_BYTES_MAX,
        "one event must fit a batch"
    );
    assert!(
        crate::batch::HEADER_FIXED_BYTES + HEADER_SENSORS_MAX * crate::batch::SENSOR_COUNTERS_BYTES
            <= HEADER_BYTES_MAX,
        "a header with every sensor must fit"
    );
    assert!(
        ARGV_BYTES_MAX + 3 * PATH_BYTES_MAX + 4096 <= EVENT_BYTES_MAX,
        "a process must fit an event"
    );
};
