//! Under a service manager: the sockets that it hands over, what it is told, and restarts under load.
//!
//! `world` is that manager: it binds the sockets and starts the program with them, as systemd does it. `restart` is
//! about what callers notice of a restart, `sockets` about which endpoint a socket is for, `told` about what the
//! manager hears.

mod restart;
mod sockets;
mod told;
mod world;
