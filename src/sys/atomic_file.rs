//! Files written whole or not at all: a temporary file beside the target, synced, then renamed over it.

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file under construction. Dropped without [`AtomicFile::commit`], it leaves no trace.
///
/// The target may be the file that is being read (mapped or not): its old content stays alive until the last reader is
/// gone.
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    /// Taken when all is written.
    writer: Option<BufWriter<File>>,
    /// The temporary file has become the target.
    in_place: bool,
    /// A second name of the old target.
    backup: Option<PathBuf>,
}

impl AtomicFile {
    /// Starts a file that [`AtomicFile::commit`] will put at `target`. Symbolic links are followed, so that the file
    /// they point to is replaced and the link stays.
    pub fn create(target: &Path) -> Result<AtomicFile> {
        if target.is_dir() {
            return Err(crate::err!(
                InvalidArgument,
                "cannot write '{}': it is a directory, give a file name",
                target.display()
            ));
        }
        let resolved = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let name = resolved
            .file_name()
            .ok_or_else(|| crate::err!(InvalidArgument, "cannot write '{}': give a file name", target.display()))?;
        // Process and counter make the name unique among writers; the folder is the target's, so that the rename
        // stays within one file system.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}-{unique}.tmp", std::process::id()));
        let temporary = resolved.with_file_name(temporary_name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| Error::io(format_args!("cannot write '{}'", target.display()), &e))?;
        if let Ok(old) = fs::metadata(&resolved) {
            // Best effort: the new file gets the old one's permissions.
            let _ = file.set_permissions(old.permissions());
        }
        let writer = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(AtomicFile { target: resolved, temporary, writer, in_place: false, backup: None })
    }

    fn writer(&mut self) -> &mut BufWriter<File> {
        self.writer.as_mut().expect("the writer is taken only on commit, which consumes the file")
    }

    fn failed(&self, e: &std::io::Error) -> Error {
        Error::io(format_args!("cannot write '{}'", self.target.display()), e)
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer().write_all(bytes).map_err(|e| self.failed(&e))
    }

    /// Overwrites bytes written before, then returns to the end.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let writer = self.writer();
        writer
            .seek(SeekFrom::Start(offset))
            .and_then(|_| writer.write_all(bytes))
            .and_then(|()| writer.seek(SeekFrom::End(0)).map(drop))
            .map_err(|e| self.failed(&e))
    }

    /// Puts the file in its place: everything is on disk before the name changes.
    pub fn commit(self) -> Result<()> {
        commit_all(vec![self])
    }

    /// Flushes and syncs; after that only the rename is left.
    fn sync(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let synced = writer.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|f| f.sync_all());
        synced.map_err(|e| self.failed(&e))
    }

    /// Keeps the old target under another name (a hard link), so that it can be put back.
    fn back_up(&mut self) {
        let mut name = self.temporary.file_name().map(std::ffi::OsString::from).unwrap_or_default();
        name.push(".old");
        let backup = self.temporary.with_file_name(name);
        if fs::hard_link(&self.target, &backup).is_ok() {
            self.backup = Some(backup);
        }
    }

    fn rename(&mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(|e| self.failed(&e))?;
        self.in_place = true;
        Ok(())
    }

    /// Undoes [`AtomicFile::rename`], as far as the file system allows.
    fn undo(&mut self) {
        if self.in_place {
            let _ = match self.backup.take() {
                Some(backup) => fs::rename(backup, &self.target),
                None => fs::remove_file(&self.target),
            };
        }
    }

    /// The rename itself reaches the disk with the folder; file systems that cannot sync folders say so, and the file is
    /// in place all the same.
    fn sync_folder(&self) {
        let folder = self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
    }
}

/// Puts several files that belong together in their places. All are on disk before the first name changes; if a rename
/// fails, those before it are undone. (Only a crash between two renames can leave a mixture.)
pub fn commit_all(mut files: Vec<AtomicFile>) -> Result<()> {
    files.iter_mut().try_for_each(AtomicFile::sync)?;
    if let [others @ .., _last] = files.as_mut_slice() {
        others.iter_mut().for_each(AtomicFile::back_up);
    }
    if let Err(e) = files.iter_mut().try_for_each(AtomicFile::rename) {
        files.iter_mut().for_each(AtomicFile::undo);
        return Err(e);
    }
    files.iter().for_each(AtomicFile::sync_folder);
    Ok(())
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        drop(self.writer.take());
        if !self.in_place {
            let _ = fs::remove_file(&self.temporary);
        }
        if let Some(backup) = &self.backup {
            let _ = fs::remove_file(backup);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mezzo-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_file_appears_only_on_commit() {
        let dir = folder("atomic");
        let path = dir.join("x.bin");
        fs::write(&path, b"old").unwrap();
        let mut f = AtomicFile::create(&path).unwrap();
        f.write(b"..new").unwrap();
        f.write_at(0, b"a ").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        f.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a new");

        let mut f = AtomicFile::create(&path).unwrap();
        f.write(b"dropped").unwrap();
        drop(f);
        assert_eq!(fs::read(&path).unwrap(), b"a new");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_that_belong_together_come_together() {
        let dir = folder("atomic-pair");
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::write(&a, b"old a").unwrap();
        let start = |path: &Path, content: &[u8]| {
            let mut f = AtomicFile::create(path).unwrap();
            f.write(content).unwrap();
            f
        };
        let files = vec![start(&a, b"new a"), start(&b, b"new b")];
        // The second rename fails: its target has become a folder that is not empty.
        fs::create_dir_all(b.join("full")).unwrap();
        assert!(commit_all(files).is_err());
        assert_eq!(fs::read(&a).unwrap(), b"old a", "the first is put back");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left");
        fs::remove_dir_all(&b).unwrap();

        commit_all(vec![start(&a, b"new a"), start(&b, b"new b")]).unwrap();
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"new a".to_vec(), b"new b".to_vec()));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn refusals_name_the_path() {
        let dir = folder("atomic-refused");
        let e = AtomicFile::create(&dir).err().unwrap();
        assert!(e.message().contains("directory"), "{e}");
        let e = AtomicFile::create(&dir.join("no/such/file")).err().unwrap();
        assert!(e.message().contains("no/such/file"), "{e}");
        fs::remove_dir_all(dir).unwrap();
    }
}
