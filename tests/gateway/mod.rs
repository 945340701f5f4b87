//! The gateway from outside, over real sockets: a caller on one side, a scripted vendor on the other.
//!
//! `world` and `vendor` are the two sides, `records` what the vendor has to say. `classes`, `kept`, `refused` and `passed` are
//! about what becomes of the vendor's answers, `headers`, `directives` and `stale` about what callers are told,
//! `routes`, `lists` and `door` about what may be asked, `onward`, `pool`, `shifted`, `unreachable` and `tls` about what is
//! sent to the vendor, `limited` about its 429, `rotation` about keys that change, `reload` about settings that do, `crowds` about
//! many callers at once, `sockets` about where it listens, `admin_cache` and `status` about what operators see and forget, `warm`
//! about what they have fetched ahead of need, `access` about the log of requests, `ending`, `secrets`, `commands`,
//! `warm_command` and `doctor` about the program itself. `framing`, `syntax`, `targets`, `variants`, `pages`, `canary`,
//! `shed` and `flood` are callers who mean harm: see `SECURITY.md`.

mod access;
mod admin_cache;
mod canary;
mod classes;
mod commands;
mod crowds;
mod directives;
mod doctor;
mod door;
mod ending;
mod flood;
mod framing;
mod headers;
mod kept;
mod limited;
mod lists;
mod onward;
mod pages;
mod passed;
mod pool;
pub(crate) mod program;
pub(crate) mod records;
mod refused;
mod reload;
mod rotation;
mod routes;
mod secrets;
mod shed;
mod shifted;
mod sockets;
mod stale;
mod status;
mod syntax;
mod targets;
mod tls;
mod unreachable;
mod variants;
pub(crate) mod vendor;
mod warm;
mod warm_command;
mod warm_framing;
mod workspaces;
pub(crate) mod world;
