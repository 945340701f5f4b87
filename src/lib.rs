//! callgate.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod call;
pub mod cli;
pub mod clock;
pub mod downstream;
pub mod drain;
pub mod lookup;
pub mod metrics;
pub mod outcome;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod upstream;
