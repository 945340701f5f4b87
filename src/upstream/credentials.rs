//! Holds the keys.
