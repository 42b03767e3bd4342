//! The real collector before good and bad agents: whatever is wrong is refused by name, counted, kept as
//! evidence where it concerns a chain, and the process goes on. Beside it the witness, before good and bad
//! ledgers.

#![cfg(test)]

mod anchor_faults;
mod anchor_servers;
mod anchors;
mod bad_batches;
mod bad_peers;
mod demanded;
#[cfg(feature = "oracles")]
mod foreign_log;
#[cfg(feature = "oracles")]
mod foreign_witness;
#[cfg(feature = "privileged")]
mod full_disk;
mod good;
#[cfg(feature = "oracles")]
mod growing_log;
mod https;
mod key_change;
mod key_witnesses;
#[cfg(feature = "privileged")]
mod other_user;
mod peer;
mod process;
mod retention;
mod retention_load;
mod split_view;
mod standing;
mod stated;
mod tls_front;
mod witness_process;
mod witness_server;
mod witnesses;

use common::{ids::Sequence, session::Message};

use self::{
    peer::{Host, Session, batch},
    process::Collector,
};

/// Shows that the collector still serves: a new host's batch is stored.
async fn assert_still_serves(collector: &mut Collector) {
    assert!(collector.alive());
    let mut host = Host::enrolled(99, collector);
    let (mut session, welcome) = Session::open(&host, collector).await;
    while host.head.next_sequence < welcome.next {
        host.seal(&[vec![1]]);
    }
    let (header, body) = host.seal(&[vec![1]]);
    session.send(&batch(&header, body)).await;
    match session.next().await {
        Some(Message::Stored { through }) => assert_eq!(through, Sequence(welcome.next.0)),
        other => panic!("{other:?}"),
    }
}
