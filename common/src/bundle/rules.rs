//! How a bundle's contents answer its question: what of an interval is covered, what was lost, what is withheld.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    Contents, Selection,
    report::{LostEvents, Unwatched, Withheld},
};
use crate::{batch::HeaderFields, event::Envelope};

/// Whether a batch watched an instant of the interval.
pub(super) fn overlaps(fields: &HeaderFields, since: u64, until: u64) -> bool {
    fields.from_wall.0 <= until && fields.until_wall.0 >= since
}

/// What of the interval no header covers, in the chain's order.
pub(super) fn unwatched(headers: &[&HeaderFields], since: u64, until: u64) -> Vec<Unwatched> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Vec::new();
    };
    let before = if first.sequence.0 == 0 {
        "before_first_batch"
    } else {
        "not_in_bundle"
    };
    let mut holes = Vec::from([(since, first.from_wall.0, before)]);
    for pair in headers.windows(2) {
        let why = match (pair[1].flags.first_since_start, pair[0].flags.last_before_stop) {
            (false, _) => "unexplained",
            (true, true) => "stopped",
            (true, false) => "broke_off",
        };
        holes.push((pair[0].until_wall.0, pair[1].from_wall.0, why));
    }
    holes.push((last.until_wall.0, until, "after_last_batch"));
    let clip = |(from, to, why): (u64, u64, &'static str)| Unwatched {
        from_ns: from.max(since),
        until_ns: to.min(until),
        why,
    };
    holes
        .into_iter()
        .map(clip)
        .filter(|hole| hole.from_ns < hole.until_ns)
        .collect()
}

/// What the sensors lost. Counters run since a sensor was loaded: they start anew with each run, and where one
/// fell. What the first header counted before it is not known to lie within.
pub(super) fn lost(headers: &[&HeaderFields]) -> Vec<LostEvents> {
    let mut before: BTreeMap<u16, u64> = BTreeMap::new();
    let mut total: BTreeMap<u16, u64> = BTreeMap::new();
    for (at, fields) in headers.iter().enumerate() {
        if fields.flags.first_since_start {
            before.clear();
        }
        let unknown = at == 0 && !fields.flags.first_since_start;
        for counters in &fields.sensors {
            let sensor = counters.sensor.0;
            let counted = before.insert(sensor, counters.lost).unwrap_or(0);
            let more = counters.lost.checked_sub(counted).unwrap_or(counters.lost);
            if !unknown && more > 0 {
                let sum = total.entry(sensor).or_default();
                *sum = sum.saturating_add(more);
            }
        }
    }
    total
        .into_iter()
        .map(|(sensor, lost)| LostEvents { sensor, lost })
        .collect()
}

/// Whether the events that should be in a batch's place are not.
pub(super) fn withheld(
    selection: &Selection,
    fields: &HeaderFields,
    contents: &Contents,
) -> Option<Withheld> {
    let Selection::Interval {
        since, until, entity, ..
    } = selection
    else {
        return None;
    };
    if fields.event_count == 0 || !overlaps(fields, since.0, until.0) {
        return None;
    }
    let why = match contents {
        Contents::Gone => "gone",
        Contents::Header if entity.is_none() => "left_out",
        _ => return None,
    };
    Some(Withheld {
        batch: fields.sequence,
        why,
    })
}

/// Whether a chosen event, at this index of its host, is one that was asked for.
pub(super) fn asked(selection: &Selection, fields: &HeaderFields, index: u64, event: &[u8]) -> bool {
    match selection {
        Selection::Interval { entity: None, .. } => false,
        Selection::Interval {
            entity: Some(entity), ..
        } => Envelope::parse(event)
            .is_ok_and(|envelope| envelope.kind == entity.kind && envelope.key == entity.key),
        Selection::Events(events) => events
            .binary_search(&(fields.host, crate::ids::EventIndex(index)))
            .is_ok(),
    }
}
