//! Reads an API key from a file. Which files keep no secret is known to [`crate::secret_file`].
//!
//! Its errors name neither the path (which may be the key itself, put into the wrong variable) nor anything of the
//! contents: whoever reports one knows which setting or workspace it is about.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::key::{ApiKey, InvalidKey};
use crate::secret_file::{self, SecretFileError};

pub use crate::secret_file::MAX_FILE;

/// Where a container's runtime mounts secrets, often as mode 0444 on a private tmpfs.
pub const RUN_SECRETS: &str = "/run/secrets";

/// Reads the key in `path`, under the rules of [`secret_file::read`].
///
/// White space around the key (a trailing newline, CRLF) is tolerated.
///
/// # Errors
/// [`KeyFileError`], which says why without naming path or contents.
pub fn read_key_file(path: &Path, trusted_dirs: &[PathBuf]) -> Result<ApiKey, KeyFileError> {
    let contents = secret_file::read(path, trusted_dirs).map_err(KeyFileError::File)?;
    ApiKey::parse(&contents).map_err(KeyFileError::Invalid)
}

/// Why a key file gave no key.
#[derive(Debug)]
pub enum KeyFileError {
    /// The file itself is no good.
    File(SecretFileError),
    /// What it holds is no key.
    Invalid(InvalidKey),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Invalid(InvalidKey::Empty) => f.write_str("the key file is empty"),
            Self::Invalid(why) => write!(f, "the key file holds no key: {why}"),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // It speaks for the file in its own words already.
            Self::File(error) => error.source(),
            Self::Invalid(why) => Some(why),
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
