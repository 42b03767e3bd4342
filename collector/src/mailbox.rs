//! What the pipeline has to say to one connection, bounded by construction.
//!
//! The pipeline never waits for a slow agent. What it says about storage and publication only moves forward,
//! so the latest word replaces the one before; refusals that end the connection are kept once.

use std::sync::{Arc, Mutex, PoisonError};

use common::{
    ids::Sequence,
    session::{Opening, Refusal},
};
use tokio::sync::Notify;

/// Everything said since the connection last looked.
#[derive(Debug, Default)]
pub struct Letters {
    /// What is known of the host.
    pub opening: Option<Opening>,
    /// Every batch up to this one is durable.
    pub stored: Option<Sequence>,
    /// Every batch before this one is under the published checkpoint.
    pub published: Option<Sequence>,
    /// The latest notice after which the session goes on.
    pub notice: Option<Refusal>,
    /// The first refusal that ends the session.
    pub refused: Option<Refusal>,
}

/// One connection's mailbox; both ends hold the same.
#[derive(Debug, Clone, Default)]
pub struct Mailbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    letters: Mutex<Letters>,
    arrived: Notify,
}

impl Mailbox {
    /// Says something.
    pub fn post(&self, say: impl FnOnce(&mut Letters)) {
        say(&mut self.0.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.arrived.notify_one();
    }

    /// Batches up to `through` are durable.
    pub fn stored(&self, through: Sequence) {
        self.post(|letters| letters.stored = letters.stored.max(Some(through)));
    }

    /// Batches before `before` are published.
    pub fn published(&self, before: Sequence) {
        self.post(|letters| letters.published = letters.published.max(Some(before)));
    }

    /// Something was refused.
    pub fn refused(&self, refusal: Refusal) {
        self.post(|letters| {
            if refusal.fatal {
                letters.refused.get_or_insert(refusal);
            } else {
                letters.notice = Some(refusal);
            }
        });
    }

    /// Waits for something and takes all of it. Cancelling loses nothing.
    pub async fn take(&self) -> Letters {
        // A permit is kept while nobody waits, so what came before this call is found as well.
        self.0.arrived.notified().await;
        std::mem::take(&mut *self.0.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use common::session::RefusalCode;

    use super::*;

    #[tokio::test]
    async fn the_latest_word_stands_and_the_first_refusal_stays() {
        let mailbox = Mailbox::default();
        mailbox.stored(Sequence(3));
        mailbox.stored(Sequence(5));
        mailbox.stored(Sequence(4));
        mailbox.refused(Refusal::notice(RefusalCode::NoSpace, None, "full"));
        mailbox.refused(Refusal::fatal(RefusalCode::Gap, None, "first"));
        mailbox.refused(Refusal::fatal(RefusalCode::Fork, None, "second"));
        let letters = mailbox.take().await;
        assert_eq!(letters.stored, Some(Sequence(5)));
        assert_eq!(letters.refused.unwrap().code, RefusalCode::Gap);
        assert_eq!(letters.notice.unwrap().code, RefusalCode::NoSpace);
        mailbox.published(Sequence(1));
        assert_eq!(mailbox.take().await.published, Some(Sequence(1)));
    }
}
