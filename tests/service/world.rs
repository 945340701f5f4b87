//! A service manager as far as these tests need one: it binds sockets, hands them to the program as descriptors 3 and
//! 4, and keeps its own hold on them.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use crate::gateway::program::serving;

/// A TCP socket of the manager's, and where it is.
pub(super) fn tcp() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// `callgate serve` before this vendor, with up to two sockets handed over; `names` is `LISTEN_FDNAMES`.
///
/// The shell puts them where the protocol wants them and writes its own number down, which the program then has.
pub(super) fn handing(vendor: SocketAddr, sockets: Vec<OwnedFd>, names: Option<&str>) -> Command {
    let usual = serving(vendor);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "export LISTEN_PID=$$; exec 3<&0 4<&1 </dev/null >/dev/null; exec \"$0\" serve"])
        .arg(env!("CARGO_BIN_EXE_callgate"))
        .env_clear()
        .envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("LISTEN_FDS", sockets.len().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    let mut sockets = sockets.into_iter();
    if let Some(first) = sockets.next() {
        command.stdin(first);
    }
    if let Some(second) = sockets.next() {
        command.stdout(second);
    }
    command
}
