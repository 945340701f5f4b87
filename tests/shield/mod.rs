//! The gateway before the simulated vendor, over real sockets: the budget, the vendor's limit and its faults, stale
//! answers, and waiting for calls to end.
//!
//! Nothing here hopes that a while is long enough: where time has to pass, a condition is waited for, or a length
//! after which nothing else can be true.

mod budget;
mod failing;
mod limited;
mod lists;
mod stale;
mod waiting;
mod world;
