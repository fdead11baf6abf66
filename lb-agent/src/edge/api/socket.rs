//! The Unix socket itself: made so that nobody but its owner can open it, and never taken from an agent that is alive.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted: every CLI call is one, and is accepted at once.
const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another agent answers on {path}: it must end first, or this one needs its own `api` (and `pin_dir`)")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("{path} exists and is not a socket: remove it, or name another path in [agent] api")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {operation} {path}: {source}. Run as root, or name another path in [agent] api")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Error,
    },
}

/// A listening socket. Dropped, its file goes too, unless another has taken its place.
#[derive(Debug)]
pub struct ApiSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl ApiSocket {
    /// Listens at `path`, replacing a socket at which nobody answers; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`]: somebody answers there, something else is there, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |operation| move |source| SocketError::Io { operation, path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(fail("make the directory of"))?;
        }
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail("make a socket for"))?;
        // On Linux a socket's file takes the mode that its descriptor has when it is bound (unix_bind in net/unix/af_unix.c), so
        // there is no moment at which others could open it.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Error::from).map_err(fail("set the mode of"))?;
        let address = SockAddr::unix(path).map_err(fail("use"))?;
        socket.bind(&address).map_err(fail("listen on"))?;
        socket.listen(BACKLOG).map_err(fail("listen on"))?;
        socket.set_nonblocking(true).map_err(fail("listen on"))?;
        let inode = std::fs::symlink_metadata(path).map_err(fail("look at"))?.ino();
        let listener = UnixListener::from_std(socket.into()).map_err(fail("listen on"))?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Takes listener and file apart; the file is removed when the second is dropped.
    pub(super) fn into_parts(self) -> (UnixListener, impl Drop) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours {
            // Best effort: whoever comes next finds that nobody answers.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::Io { operation: "look at", path: path.to_owned(), source }),
        Ok(file) if !file.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(source) if source.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| SocketError::Io { operation: "replace", path: path.to_owned(), source }),
        Err(source) => Err(SocketError::Io { operation: "try", path: path.to_owned(), source }),
    }
}
