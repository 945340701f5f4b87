//! The tests from outside, one binary:
//!
//! - `house`: the order that the sources keep: who imports whom, what stands where.
#![cfg(test)]

mod house;
