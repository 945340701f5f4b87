//! What operators and their machines do to the gateway: ends in the middle of everything, clocks that are set, logs and
//! scrapes that nobody reads, limits of memory, users without rights.
//!
//! The disk's own troubles are in `disk`, those of settings in `settings`, changes of key files in `gateway::rotation`.

mod clock;
mod confined;
mod ends;
mod killed;
mod unread;
