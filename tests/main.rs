//! What the gateway promises, tested from outside, and the order that its sources keep. One binary, so that it links
//! once.
//!
//! - `house`: who imports whom, what stands where.
//! - `listener`: sockets, limits and timers of an endpoint, by raw bytes.
//! - `settings`: what a configuration means, and what is said about a bad one.
#![cfg(test)]
#![forbid(unsafe_code)]

mod house;
mod listener;
mod settings;
