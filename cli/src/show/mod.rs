//! Answers as lines: columns, trees, and the statement around them.

pub(crate) mod columns;
pub(crate) mod statement;
pub(crate) mod table;
pub(crate) mod tree;
