//! Binds the sockets that callers connect to.
//!
//! Knows addresses, socket options and files, and nothing of HTTP or of what becomes of a connection: that is
//! [`super::accept`]. Promises: nobody can connect to a Unix socket before its permission bits stand; a live socket
//! and a file that is no socket are never touched; the file is removed at the end, if it is still ours. A socket that
//! was handed to this process is served as it is, and its file stays.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket, UnixStream};

use super::{
    BindAddress,
    socket::{Peer, Socket},
};

/// Connections that the kernel completes and holds while none of our slots is free. Linux cuts it to
/// `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// Where a [`Listener`] came to listen: with the port that the system chose, where it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a socket file.
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket that listens. Callers may connect from now on; they are answered once it is served.
#[derive(Debug)]
pub struct Listener {
    address: LocalAddress,
    // Above the socket, so that the file goes first: see `SocketFile`.
    _file: Option<SocketFile>,
    socket: Bound,
}

/// A socket that somebody else has bound and listens on. Whoever holds it beside this process goes on doing so when
/// this process closes it: who connects in between waits in its backlog.
#[derive(Debug)]
pub enum Handed {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds `address` and listens. `unix_mode` is the permission bits of a socket file.
    ///
    /// A socket file that nobody listens on, left behind by a process that was killed, is replaced.
    ///
    /// # Errors
    /// What the system says, with the address in front; `AddrInUse` where somebody listens on the socket file,
    /// `AlreadyExists` where the path is something else than a socket.
    pub async fn bind(address: &BindAddress, unix_mode: u32) -> io::Result<Self> {
        match address {
            BindAddress::Tcp(address) => {
                Self::bind_tcp(*address).map_err(|error| in_context(address, &error))
            }
            BindAddress::Unix(path) => Self::bind_unix(path, unix_mode)
                .await
                .map_err(|error| in_context(&format_args!("unix:{}", path.display()), &error)),
        }
    }

    /// Serves a socket that was handed to this process, in place of one that it binds.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(socket: Handed) -> io::Result<Self> {
        let (address, socket) = match socket {
            Handed::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let socket = TcpListener::from_std(socket)?;
                (LocalAddress::Tcp(socket.local_addr()?), Bound::Tcp(socket))
            }
            Handed::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let socket = UnixListener::from_std(socket)?;
                // One without a file has a name of its own kind, which nothing here asks for.
                let path = socket.local_addr()?.as_pathname().map(Path::to_owned);
                (LocalAddress::Unix(path.unwrap_or_default()), Bound::Unix(socket))
            }
        };
        Ok(Self { address, _file: None, socket })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> &LocalAddress {
        &self.address
    }

    fn bind_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Or a restart would have to wait for the last process's connections in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = LocalAddress::Tcp(listener.local_addr()?);
        Ok(Self { address, _file: None, socket: Bound::Tcp(listener) })
    }

    /// The umask belongs to the whole process, and other threads create files. It is not needed: between `bind` and
    /// `listen` the file exists but refuses everybody, and that is when its mode is set.
    async fn bind_unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = SocketFile::at(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let listener = socket.listen(BACKLOG)?;
        let address = LocalAddress::Unix(path.to_owned());
        Ok(Self { address, _file: Some(file), socket: Bound::Unix(listener) })
    }

    /// The next connection.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        Poll::Ready(Ok(match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                // A failure means that the caller is gone already, which the first read will tell.
                let _ = stream.set_nodelay(true);
                (Socket::Tcp(stream), Peer::Tcp(peer))
            }
            Bound::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                (Socket::Unix(stream), Peer::Unix)
            }
        }))
    }
}

fn in_context(address: &dyn fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

/// Removes a socket file that nobody listens on.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is not a socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Of an older process that ended just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog is somebody's, too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
    }
}

/// The file of a Unix socket, removed on drop if it is still the one that was bound. The socket has to outlive this:
/// as long as it is open its inode's number is not given to another file.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: file.dev(), inode: file.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Who stops us now has taken the directory away; there is nothing left to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: u32 = 0o640;

    fn unix(path: &Path) -> BindAddress {
        BindAddress::Unix(path.to_owned())
    }

    #[tokio::test]
    async fn a_socket_file_has_its_mode_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gate.sock");
        let listener = Listener::bind(&unix(&path), MODE).await.expect("bound");
        let mode = fs::symlink_metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
        assert_eq!(listener.local_address().to_string(), format!("unix:{}", path.display()));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gate.sock");
        // The standard library's listener leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let live = Listener::bind(&unix(&path), MODE).await.expect("bound");
        let error = Listener::bind(&unix(&path), MODE).await.expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(live);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "mine").expect("written");
        let error = Listener::bind(&unix(&path), MODE).await.expect_err("no socket");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().ends_with("notes.txt: exists and is not a socket"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"mine");
    }

    #[tokio::test]
    async fn a_socket_file_that_is_no_longer_ours_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gate.sock");
        let first = Listener::bind(&unix(&path), MODE).await.expect("bound");
        fs::remove_file(&path).expect("removed by somebody");
        let second = Listener::bind(&unix(&path), MODE).await.expect("bound");
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_address() {
        let listener =
            Listener::bind(&BindAddress::Tcp(([127, 0, 0, 1], 0).into()), MODE).await.expect("bound");
        let LocalAddress::Tcp(address) = *listener.local_address() else { panic!("tcp") };
        let error = Listener::bind(&BindAddress::Tcp(address), MODE).await.expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&address.to_string()), "{error}");
    }
}
