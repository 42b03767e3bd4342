//! The state at random instants, held against an independent look at `/proc` at those instants.
