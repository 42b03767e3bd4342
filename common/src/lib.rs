//! Bytes and pure machines both ends of Hostledger share.
//!
//! `no_std` is the proof that nothing here touches a clock, socket, file, thread or randomness: whatever
//! needs one takes it as an argument. With default features off only [`abi`] remains, the structures that
//! the eBPF programs write and the agent reads.
#![no_std]

#[cfg(feature = "full")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod abi;
#[cfg(feature = "full")]
pub mod anchor;
#[cfg(feature = "full")]
pub mod answer;
#[cfg(feature = "full")]
pub mod batch;
#[cfg(feature = "full")]
pub mod bundle;
#[cfg(feature = "full")]
pub mod certificate;
#[cfg(feature = "full")]
pub mod checkpoint;
#[cfg(feature = "full")]
pub mod codec;
#[cfg(feature = "full")]
pub mod der;
#[cfg(feature = "full")]
pub mod entry;
#[cfg(feature = "full")]
pub mod event;
#[cfg(feature = "full")]
pub mod fold;
#[cfg(feature = "full")]
pub mod ids;
#[cfg(feature = "full")]
pub mod journal;
#[cfg(feature = "full")]
pub mod keyring;
#[cfg(feature = "full")]
pub mod ledger_keys;
#[cfg(feature = "full")]
pub mod limits;
#[cfg(feature = "full")]
pub mod merkle;
#[cfg(feature = "full")]
pub mod note;
#[cfg(feature = "full")]
pub mod projection;
#[cfg(feature = "full")]
pub mod proof;
#[cfg(feature = "full")]
pub mod receipt;
#[cfg(feature = "full")]
pub mod retention;
#[cfg(feature = "full")]
pub mod sequencer;
#[cfg(feature = "full")]
pub mod session;
#[cfg(feature = "full")]
pub mod signature;
#[cfg(feature = "full")]
pub mod split;
#[cfg(feature = "full")]
pub mod spool;
#[cfg(feature = "full")]
pub mod statement;
#[cfg(feature = "full")]
pub mod text;
#[cfg(feature = "full")]
pub mod tile;
#[cfg(feature = "full")]
pub mod timestamp;
#[cfg(feature = "full")]
pub mod watchman;
#[cfg(feature = "full")]
pub mod witness;

#[cfg(test)]
#[cfg(feature = "full")]
mod testing;
