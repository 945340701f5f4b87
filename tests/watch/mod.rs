//! What those who run the gateway look at: what Prometheus scrapes, records and draws, what a collector of traces gets,
//! and what the admin endpoint says of both endpoints.
//!
//! `prometheus` starts a real one and `dashboard` asks it all that `deploy/` does. `traces` is about spans, and `collector`
//! the one that gets them. `described` holds `openapi.json` to what is answered.

mod collector;
mod dashboard;
mod described;
mod prometheus;
mod traces;
