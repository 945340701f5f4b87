//! What those who run the gateway look at: what Prometheus scrapes, records and draws, and what a collector of traces
//! gets.
//!
//! `prometheus` starts a real one and `dashboard` asks it all that `deploy/` does. `traces` is about spans, and `collector`
//! the one that gets them.

mod collector;
mod dashboard;
mod prometheus;
mod traces;
