//! What replicas share, from outside: gateways in this process and programs of their own, before one vendor and around
//! one Redis.
//!
//! `world` is all of them, `relay` a line to Redis that can be cut. `stampede` is about one request for all, `kept` about
//! what one was told and the others know, `sealed` about who can read it, `outage` about a Redis that goes and comes
//! back, `erased` about what all are to forget, `purged` about what then must not come back, `clocks` about a Redis whose
//! clock steps, `order` about older and newer records, `hindered` about values that nobody of ours wrote, `budget` about
//! what all may spend, `restart` about ten thousand calls.
//!
//! Where there is no `redis-server` they say so and leave it at that.

mod budget;
mod clocks;
mod erased;
mod hindered;
mod kept;
mod order;
mod outage;
mod purged;
mod relay;
mod restart;
mod sealed;
mod stampede;
mod world;
