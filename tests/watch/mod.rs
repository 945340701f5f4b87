//! What those who run the gateway look at: what Prometheus scrapes, records and draws.
//!
//! `prometheus` starts a real one and `dashboard` asks it all that `deploy/` does.

mod dashboard;
mod prometheus;
