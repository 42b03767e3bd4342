//! Golden bytes of every message, and the decoder against any chunking and any garbage.

use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use crate::{
    ids::{Hash, HostId, LeafIndex, Nonce, Sequence, hex},
    limits::{BATCH_BODY_BYTES_MAX, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, RECEIPTS_MAX},
    merkle::PROOF_HASHES_MAX,
    session::{
        BadMessage, FrameDecoder, Hello, Message, PROTOCOL_VERSION, Proven, Receipts, Refusal, RefusalCode,
        Welcome, Window,
    },
};

fn every_message() -> Vec<Message> {
    let window = Window {
        batches: 64,
        bytes: 4_194_304,
    };
    vec![
        Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            host: HostId([1; 32]),
            agent_version: "0.1.0".into(),
            next: Sequence(9),
            head: Hash([2; 32]),
            oldest: Sequence(7),
            seen_size: 40,
            seen_root: Hash([3; 32]),
        }),
        Message::Batch {
            header: vec![4; 5],
            body: vec![5; 3],
        },
        Message::Ping,
        Message::Bye,
        Message::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            nonce: Nonce([6; 32]),
            next: Sequence(8),
            head: Hash([7; 32]),
            window,
        }),
        Message::Refused(Refusal::fatal(
            RefusalCode::Gap,
            Some(Sequence(3)),
            "batch 3 where 2 must follow",
        )),
        Message::Refused(Refusal::notice(RefusalCode::NoSpace, None, "full")),
        Message::Stored { through: Sequence(8) },
        Message::Receipts(Receipts {
            checkpoint: b"a note\n".to_vec(),
            consistency: vec![Hash([8; 32])],
            proven: vec![Proven {
                sequence: Sequence(7),
                leaf: LeafIndex(41),
                proof: vec![Hash([9; 32]), Hash([10; 32])],
            }],
        }),
        Message::Nonce(Nonce([11; 32])),
        Message::Credit(window),
        Message::Keys(b"history\n".to_vec()),
    ]
}

#[test]
fn golden_messages() {
    let lines: Vec<String> = every_message()
        .iter()
        .map(|message| format!("{}: {}", message.name(), hex(&message.encode().unwrap())))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_largest_messages_fit_and_larger_ones_are_refused() {
    let batch = |header, body| {
        Message::Batch {
            header: vec![0; header],
            body: vec![0; body],
        }
        .encode()
    };
    let largest = batch(HEADER_BYTES_MAX, BATCH_BODY_BYTES_MAX).unwrap();
    assert!(largest.len() <= MESSAGE_BYTES_MAX + 4);
    assert!(batch(HEADER_BYTES_MAX + 1, 0).is_err());
    assert!(batch(1, BATCH_BODY_BYTES_MAX + 1).is_err());
    let proof = vec![Hash([1; 32]); PROOF_HASHES_MAX];
    let proven = Proven {
        sequence: Sequence(1),
        leaf: LeafIndex(1),
        proof: proof.clone(),
    };
    let receipts = |count| {
        Message::Receipts(Receipts {
            checkpoint: vec![b'x'; crate::limits::NOTE_BYTES_MAX],
            consistency: proof.clone(),
            proven: vec![proven.clone(); count],
        })
        .encode()
    };
    receipts(RECEIPTS_MAX).unwrap();
    assert!(receipts(RECEIPTS_MAX + 1).is_err());
}

fn only_error(bytes: &[u8]) -> BadMessage {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    decoder.next_message().unwrap_err()
}

#[test]
fn garbage_is_named() {
    assert_eq!(only_error(&[0, 0, 0, 0]), BadMessage::Length(0));
    // Refused on its length alone, before anything was buffered for it.
    assert_eq!(only_error(b"GET / HTTP/1.1\r\n"), BadMessage::Length(0x4745_5420));
    assert_eq!(only_error(&[0, 0, 0, 1, 77]), BadMessage::Type(77));
    assert_eq!(only_error(&[0, 0, 0, 2, 3, 0]), BadMessage::Trailing(1));
    assert!(matches!(
        only_error(&[0, 0, 0, 3, 131, 0, 0]),
        BadMessage::Short(_)
    ));
    let mut flag = Message::Refused(Refusal::fatal(RefusalCode::Gap, None, ""))
        .encode()
        .unwrap();
    flag[7] = 2;
    assert!(matches!(
        only_error(&flag),
        BadMessage::Field {
            field: "fatal",
            value: 2
        }
    ));
}

#[test]
fn unknown_refusal_codes_are_kept() {
    let refusal = Refusal::fatal(RefusalCode::Other(999), None, "new");
    let bytes = Message::Refused(refusal.clone()).encode().unwrap();
    assert_eq!(Message::decode(&bytes[4..]), Ok(Message::Refused(refusal)));
    for number in 1..=16 {
        let code = RefusalCode::from_number(number);
        assert!(!matches!(code, RefusalCode::Other(_)));
        assert_eq!(code.number(), number);
    }
}

proptest! {
    #[test]
    fn prop_any_chunking_gives_the_same_messages(
        picks in prop::collection::vec(0usize..11, 1..8), cuts in prop::collection::vec(1usize..90, 1..40),
    ) {
        let all = every_message();
        let messages: Vec<Message> = picks.iter().map(|pick| all[*pick].clone()).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.encode().unwrap()).collect();
        let mut decoder = FrameDecoder::default();
        let (mut rest, mut found) = (stream.as_slice(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            rest = tail;
            decoder.push(chunk);
            while let Some(message) = decoder.next_message().unwrap() {
                found.push(message);
            }
            prop_assert!(decoder.buffered() <= stream.len());
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, messages);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn prop_garbage_never_panics_and_what_decodes_encodes_to_itself(frame in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::decode(&frame) {
            // Text that is not UTF-8 is shown with replacements, so that only the rest must agree.
            let text = matches!(message, Message::Hello(_) | Message::Refused(_));
            prop_assert!(text || message.encode().unwrap()[4..] == frame);
        }
        let mut decoder = FrameDecoder::default();
        decoder.push(&frame);
        while let Ok(Some(_)) = decoder.next_message() {}
    }

    #[test]
    fn prop_a_cut_message_is_refused(pick in 0usize..11, at: prop::sample::Index) {
        let bytes = every_message()[pick].encode().unwrap();
        let frame = &bytes[4..];
        let cut = at.index(frame.len());
        // A batch's body is whatever follows its header.
        let body_cut = frame[0] == 2 && cut >= 3 + 5;
        prop_assert!(Message::decode(&frame[..cut]).is_err() || body_cut);
    }
}
