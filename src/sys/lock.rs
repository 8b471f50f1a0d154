//! Locks between processes: a file beside what they protect.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Held by one thread of one process at a time; released when dropped, and by the system when the process ends.
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock of a file, which is held in a file of the same name with `.lock` after it. The lock's file stays:
    /// taking it away would let two hold it.
    pub fn beside(path: &Path) -> Result<FileLock> {
        let mut name = path.as_os_str().to_os_string();
        name.push(".lock");
        let name = PathBuf::from(name);
        let failed = |e| Error::io(format_args!("cannot lock '{}'", name.display()), &e);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&name).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(FileLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn only_one_holds_it() {
        let path = std::env::temp_dir().join(format!("mezzo-lock-{}", std::process::id()));
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = FileLock::beside(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        let error = FileLock::beside(Path::new("/nowhere/at/all")).map(|_| ()).unwrap_err();
        assert!(error.message().contains("/nowhere/at/all.lock"), "{error}");
        std::fs::remove_file(path.with_extension("lock")).ok();
        std::fs::remove_file(format!("{}.lock", path.display())).ok();
    }
}
