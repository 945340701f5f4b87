//! callgate: a caching reverse proxy for call records.
//!
//! It stands between a company's services and the vendor of its phone agents: it holds the vendor's key, so that no
//! service needs it; it keeps the records of calls that are over, asks again for those under way, merges lookups of
//! the same call, and sends the vendor no more than it allows.
//!
//! # The line
//!
//! One request walks one way; each step hands a value to the next and is never asked again:
//!
//! ```text
//! listener → connection → guard → route → lookup → memory → flight → disk → shared tier → lease → permit
//!     → vendor → admission → store → reply
//! ```
//!
//! What travels is a [`route::Route`](downstream::route::Route), then a [`CacheKey`](call::CacheKey) in an
//! [`Ask`](lookup::Ask), then a [`Stored`](store::Stored) or a [`Refusal`](outcome::Refusal) in an
//! [`Answer`](lookup::Answer), and at last a response. Nothing is smuggled past in request extensions.
//!
//! # The house, from top to bottom
//!
//! A part imports from below its own line and never from above; `tests/house.rs` holds it.
//!
//! - [`cli`]: the commands, one small file each. The only part that reads the environment, for `main` hands it down.
//! - [`app`]: the composition root, which makes a gateway out of settings.
//! - [`admin`]: the operators' endpoint: probes and counters, the status page, forgetting, warming, the settings.
//! - [`downstream`]: the callers' side: sockets, connections, the guard, routes, replies.
//! - [`lookup`]: the story of a lookup; [`lookup::admission`] decides what may be kept, [`lookup::flight`] coalesces.
//! - [`store`]: what is kept: in memory, on disk, and in what the replicas share. [`upstream`]: the vendor's side:
//!   credentials, permits, the client. [`otlp`]: hands spans to a collector, where there is one.
//! - [`replicas`]: the connection to Redis or Valkey, which store and budget share.
//! - [`metrics`]: what is counted.
//! - [`outcome`]: the words that header, log and metric share. [`call`]: ids and keys.
//! - [`clock`] and [`trace`]: the time of day, and who asks whom.
//! - [`secret_file`]: reads a file with a secret in it, and refuses one that everybody can read. [`trust`]: whose
//!   certificates are believed. [`causes`]: an error and what it came of, in one line. [`hex`]: digits. [`mod@line`]: the
//!   text of a field.
//!
//! Beside that order stand [`settings`], which reads files and environment into the parts' own settings types,
//! [`telemetry`], [`drain`], and [`sandbox`]: the simulated vendor, which shares no code with the gateway.
//!
//! # Words
//!
//! *Downstream* is the callers' side and *upstream* the vendor's, as Envoy has it; RFC 9110 §3.7 uses the same words
//! for the flow of a message. *Hit*, *miss* and *collapsed* are RFC 9211's; *fresh*, *stale*, *age* and *freshness
//! lifetime* RFC 9111's. A *bypass* is an answer that goes past the cache because the call is still under way. A
//! *flight* is one fetch with its *leader* and its *waiters*. A record is *final*, *settling*, *ongoing* or *suspect*.
//! A *tier* is memory, the disk or what the replicas share; a *replica* is one of several gateways with one Redis. A
//! *lease* is the right to ask for a call on behalf of them all, a *permit* a request's place in the budget, and its
//! *lane* how early its turn comes.
//!
//! # What is never so
//!
//! - No request leaves for the vendor without a [`Permit`](upstream::budget::gate::Permit).
//! - What an answer of the vendor becomes is decided by admission and nowhere else.
//! - Nothing but records of calls that are over and 404s is kept, unless a setting says so, and beyond memory only
//!   final ones; a failure is remembered for a moment.
//! - The key is in no log, error, metric, dump or response, and a body in no log.
//! - No global state, no `unsafe`, no lock across an await; ages are counted on tokio's clock, which tests can pause.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod call;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod downstream;
pub mod drain;
pub mod hex;
pub mod line;
pub mod lookup;
pub mod metrics;
pub mod otlp;
pub mod outcome;
pub mod replicas;
pub mod sandbox;
pub mod secret_file;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod trust;
pub mod upstream;
