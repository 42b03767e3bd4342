//! The ledger as a whole, through its public interface.

// `cfg(test)` tells the lints that helpers outside test functions are test code as well.
#[cfg(test)]
mod ahead;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fsck;
#[cfg(test)]
mod index;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod threads;
