//! Reads a record.

/// How deep a record may nest.
pub const MAX_DEPTH: usize = 128;
