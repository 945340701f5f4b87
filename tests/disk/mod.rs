//! The disk tier, from outside: the program is killed and started again, and its file is cut, spoilt, shared and locked
//! in between.
//!
//! `world` is a gateway with a file before a vendor; `restart` is about what comes back, `forgotten` about what must
//! not, `files` about files that cannot be used, `room` about capacity and a full disk, `sealed` about who can read them.

mod files;
mod forgotten;
mod restart;
mod room;
mod sealed;
pub(crate) mod world;
