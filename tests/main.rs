//! What the gateway promises, tested from outside, and the order that its sources keep. One binary, so that it links
//! once.
//!
//! - `browser`: the status page in a real Chromium, driven over the WebDriver protocol.
//! - `canary`: the search for keys in whatever a gateway of these tests answers, logs or leaves behind.
//! - `corpus`: what the fuzz targets were fed with, played once more.
//! - `disk`: what survives the process, and what becomes of a file that is not as it was left.
//! - `gateway`: the whole of it, between raw callers and a scripted vendor.
//! - `house`: who imports whom, what stands where.
//! - `listener`: sockets, limits and timers of an endpoint, by raw bytes.
//! - `operations`: kills, clocks, unread logs, limits of memory and rights.
//! - `replicas`: the link to Redis, against a real one that goes, hangs and comes back.
//! - `sandbox`: the simulated vendor, over its own sockets.
//! - `service`: under a service manager: sockets that are handed over, what it is told, restarts under load.
//! - `settings`: layers, problems and their names.
//! - `shared`: several gateways and one Redis: what one was told, asked for, spent and was to forget, all are bound by.
//! - `shield`: what the vendor is spared and callers are answered while it limits, fails or hangs.
//! - `tools`: the programs beside this one that some of these need, and what is said where one is missing.
//! - `watch`: what Prometheus, a collector of traces and the description of the endpoints show of the gateway.
#![cfg(test)]
#![forbid(unsafe_code)]

mod browser;
mod canary;
mod corpus;
mod disk;
mod gateway;
mod house;
mod listener;
mod operations;
mod replicas;
mod sandbox;
mod service;
mod settings;
mod shared;
mod shield;
mod tools;
mod watch;
