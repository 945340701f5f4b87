//! Reads a file that holds a secret, and refuses files that keep none.
//!
//! It never blocks on a FIFO or a device, never reads more than [`MAX_FILE`], and its errors name neither the path (which
//! may be the secret itself, put into the wrong variable) nor anything of the contents: whoever reports one knows which
//! setting it is about. What the contents have to be is the business of who asked for them.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 8 * 1024;

/// Read by everybody.
const OTHERS_READ: u32 = 0o004;

/// Reads the file at `path`; what it holds is wiped as it is dropped.
///
/// The file must not be readable by everybody, unless it lies, symbolic links resolved, below one of `trusted_dirs`;
/// group bits are allowed, since Kubernetes mounts secrets as 0440. It is read at once and blocks for as long as a small
/// local file takes.
///
/// # Errors
/// [`SecretFileError`], which says why without naming path or contents.
pub fn read(path: &Path, trusted_dirs: &[PathBuf]) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let mut file = open_regular(path)?;
    let mode = file.metadata().map_err(SecretFileError::Unreadable)?.mode();
    if mode & OTHERS_READ != 0 && !lies_in(path, trusted_dirs) {
        return Err(SecretFileError::WorldReadable { mode: mode & 0o7777 });
    }
    // Of its full size from the start, so that no copy is left behind by growth.
    let mut buffer = Zeroizing::new(vec![0; MAX_FILE + 1]);
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SecretFileError::Unreadable(error)),
        }
    }
    if len > MAX_FILE {
        return Err(SecretFileError::TooLarge);
    }
    buffer.truncate(len);
    Ok(buffer)
}

/// Opens a regular file for reading; anything else is refused without waiting for its other end.
fn open_regular(path: &Path) -> Result<File, SecretFileError> {
    // A FIFO without a writer opens at once when O_NONBLOCK is set; the flag has no effect on regular files.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SecretFileError::Missing),
        // A Unix socket or a device without a driver.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Err(SecretFileError::NotRegular);
        }
        Err(error) => return Err(SecretFileError::Unreadable(error)),
    };
    let kind = file.metadata().map_err(SecretFileError::Unreadable)?.file_type();
    if kind.is_dir() {
        return Err(SecretFileError::Directory);
    }
    if !kind.is_file() {
        return Err(SecretFileError::NotRegular);
    }
    Ok(file)
}

/// Whether `path` lies below one of `dirs` once `..` and symbolic links are resolved in both.
fn lies_in(path: &Path, dirs: &[PathBuf]) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    dirs.iter().filter_map(|dir| dir.canonicalize().ok()).any(|dir| path.starts_with(dir))
}

/// Why a file gave nothing.
#[derive(Debug)]
pub enum SecretFileError {
    /// No such file.
    Missing,
    /// A directory.
    Directory,
    /// A FIFO, a socket or a device.
    NotRegular,
    /// Everybody may read it, and it lies in no directory that is meant for that.
    WorldReadable {
        /// Its permission bits.
        mode: u32,
    },
    /// Over [`MAX_FILE`] bytes.
    TooLarge,
    /// The system refused.
    Unreadable(io::Error),
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the key file does not exist"),
            Self::Directory => f.write_str("the key file is a directory"),
            Self::NotRegular => f.write_str("the key file is not a regular file"),
            Self::WorldReadable { mode } => {
                write!(f, "the key file is readable by everybody (mode {mode:04o})")
            }
            Self::TooLarge => f.write_str("the key file is over 8 KiB"),
            Self::Unreadable(error) => write!(f, "the key file cannot be read: {error}"),
        }
    }
}

impl std::error::Error for SecretFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Missing
            | Self::Directory
            | Self::NotRegular
            | Self::WorldReadable { .. }
            | Self::TooLarge => None,
        }
    }
}
