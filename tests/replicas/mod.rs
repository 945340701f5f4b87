//! What replicas share, against a real Redis: `redis` starts and torments it, `link` is about the connection, `entry`
//! about how it is entered, `fate` about a Redis that goes and comes back.
//!
//! `posts` is about what is told it without waiting, `budget` about the window of departures that lies in it.
//!
//! Where there is no `redis-server` they say so and leave it at that.

mod budget;
mod entry;
mod fate;
mod link;
mod posts;
pub(crate) mod redis;
pub(crate) mod world;
