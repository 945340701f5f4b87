//! Reads a key from a file, and refuses files that keep no secret or hold none.
//!
//! It never blocks on a FIFO or a device, never reads more than a key may be long, and its errors name neither the
//! path (which may be the key itself, put into the wrong variable) nor anything of the contents: whoever reports one
//! knows which setting or workspace it is about.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::key::{ApiKey, InvalidKey};

/// The largest key file that is read, in bytes.
pub const MAX_FILE: usize = 8 * 1024;

/// Where a container's runtime mounts secrets, often as mode 0444 on a private tmpfs.
pub const RUN_SECRETS: &str = "/run/secrets";

/// Read by everybody.
const OTHERS_READ: u32 = 0o004;

/// Reads the key in `path`.
///
/// White space around the key (a trailing newline, CRLF) is tolerated. The file must not be readable by everybody,
/// unless it lies, symbolic links resolved, below one of `trusted_dirs`; group bits are allowed, since Kubernetes
/// mounts secrets as 0440. It is read at once and blocks for as long as a small local file takes.
///
/// # Errors
/// [`KeyFileError`], which says why without naming path or contents.
pub fn read_key_file(path: &Path, trusted_dirs: &[PathBuf]) -> Result<ApiKey, KeyFileError> {
    let mut file = open_regular(path)?;
    let mode = file.metadata().map_err(KeyFileError::Unreadable)?.mode();
    if mode & OTHERS_READ != 0 && !lies_in(path, trusted_dirs) {
        return Err(KeyFileError::WorldReadable { mode: mode & 0o7777 });
    }
    // A buffer of fixed size, so that no copy is left behind by growth.
    let mut buffer = Zeroizing::new([0; MAX_FILE + 1]);
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KeyFileError::Unreadable(error)),
        }
    }
    if len > MAX_FILE {
        return Err(KeyFileError::TooLarge);
    }
    ApiKey::parse(&buffer[..len]).map_err(KeyFileError::Invalid)
}

/// Opens a regular file for reading; anything else is refused without waiting for its other end.
///
/// # Errors
/// [`KeyFileError::Missing`], [`KeyFileError::Directory`], [`KeyFileError::NotRegular`] or
/// [`KeyFileError::Unreadable`].
fn open_regular(path: &Path) -> Result<File, KeyFileError> {
    // A FIFO without a writer opens at once when O_NONBLOCK is set; the flag has no effect on regular files.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyFileError::Missing),
        // A Unix socket or a device without a driver.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Err(KeyFileError::NotRegular);
        }
        Err(error) => return Err(KeyFileError::Unreadable(error)),
    };
    let kind = file.metadata().map_err(KeyFileError::Unreadable)?.file_type();
    if kind.is_dir() {
        return Err(KeyFileError::Directory);
    }
    if !kind.is_file() {
        return Err(KeyFileError::NotRegular);
    }
    Ok(file)
}

/// Whether `path` lies below one of `dirs` once `..` and symbolic links are resolved in both.
fn lies_in(path: &Path, dirs: &[PathBuf]) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    dirs.iter().filter_map(|dir| dir.canonicalize().ok()).any(|dir| path.starts_with(dir))
}

/// Why a key file gave no key.
#[derive(Debug)]
pub enum KeyFileError {
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
    /// What it holds is no key.
    Invalid(InvalidKey),
    /// The system refused.
    Unreadable(io::Error),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the key file does not exist"),
            Self::Directory => f.write_str("the key file is a directory"),
            Self::NotRegular => f.write_str("the key file is not a regular file"),
            Self::WorldReadable { mode } => {
                write!(f, "the key file is readable by everybody (mode {mode:04o})")
            }
            Self::TooLarge => f.write_str("the key file is over 8 KiB"),
            Self::Invalid(InvalidKey::Empty) => f.write_str("the key file is empty"),
            Self::Invalid(why) => write!(f, "the key file holds no key: {why}"),
            Self::Unreadable(error) => write!(f, "the key file cannot be read: {error}"),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid(why) => Some(why),
            Self::Unreadable(error) => Some(error),
            Self::Missing
            | Self::Directory
            | Self::NotRegular
            | Self::WorldReadable { .. }
            | Self::TooLarge => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    const CANARY: &str = "canary-0071e5-of-a-key";

    fn file(dir: &Path, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, contents).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path
    }

    #[test]
    fn a_key_file_is_read_whatever_its_line_ending() {
        let dir = tempfile::tempdir().expect("a directory");
        for (mode, contents) in
            [(0o600, CANARY.to_owned()), (0o440, format!("{CANARY}\n")), (0o640, format!(" {CANARY}\r\n"))]
        {
            let key = read_key_file(&file(dir.path(), &format!("{mode:o}"), contents.as_bytes(), mode), &[]);
            assert!(key.expect("a key").occurs_in(CANARY.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused_at_once_and_without_its_contents() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).expect("a fifo");
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let large = vec![b'k'; MAX_FILE + 1];
        let table: [(PathBuf, &str); 11] = [
            (dir.path().join(CANARY), "the key file does not exist"),
            (dir.path().to_owned(), "the key file is a directory"),
            (fifo, "the key file is not a regular file"),
            (socket, "the key file is not a regular file"),
            ("/dev/null".into(), "the key file is not a regular file"),
            (
                file(dir.path(), "open", CANARY.as_bytes(), 0o644),
                "the key file is readable by everybody (mode 0644)",
            ),
            (file(dir.path(), "empty", b"", 0o600), "the key file is empty"),
            (file(dir.path(), "blank", b" \n", 0o600), "the key file is empty"),
            (file(dir.path(), "large", &large, 0o600), "the key file is over 8 KiB"),
            (
                file(dir.path(), "split", format!("{CANARY}\r\nx: y").as_bytes(), 0o600),
                "the key file holds no key: a control character, a space or a byte beyond ASCII inside",
            ),
            (file(dir.path(), "long", &large[..5000], 0o600), "the key file holds no key: over 4096 bytes"),
        ];
        for (path, message) in table {
            let error = read_key_file(&path, &[]).expect_err(message);
            assert_eq!(error.to_string(), message);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }

    #[test]
    fn a_world_readable_file_is_trusted_only_where_secrets_are_mounted() {
        let dir = tempfile::tempdir().expect("a directory");
        let (secrets, elsewhere) = (dir.path().join("secrets"), dir.path().join("elsewhere"));
        fs::create_dir_all(secrets.join("..2026")).expect("a directory");
        fs::create_dir(&elsewhere).expect("a directory");
        let outside = file(&elsewhere, "key", CANARY.as_bytes(), 0o444);
        let inside = file(&secrets.join("..2026"), "key", CANARY.as_bytes(), 0o444);
        let linked = secrets.join("key");
        std::os::unix::fs::symlink(&inside, &linked).expect("a link");
        let astray = secrets.join("astray");
        std::os::unix::fs::symlink(&outside, &astray).expect("a link");
        let trusted = [secrets.clone(), dir.path().join("absent")];
        let read = |path: &Path| read_key_file(path, &trusted).is_ok();
        assert!(read(&inside) && read(&linked), "as Kubernetes mounts them");
        assert!(!read(&outside) && !read(&astray) && !read(&secrets.join("../elsewhere/key")));
    }
}
