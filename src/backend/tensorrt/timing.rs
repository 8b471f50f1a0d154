//! The timing cache file: TensorRT's own form, as trtexec writes it.

use crate::error::Error;
use crate::sys::atomic_file::AtomicFile;
use crate::sys::lock::FileLock;
use crate::sys::tensorrt::{Config, TimingCache};
use crate::{Result, bail};
use std::path::{Path, PathBuf};

/// A timing cache in use by a configuration.
pub struct Timing<'b> {
    cache: TimingCache<'b>,
    path: PathBuf,
    /// What was wrong with the file.
    pub warning: Option<String>,
}

impl<'b> Timing<'b> {
    /// Reads a file and makes the configuration use it. No file, or one that this library or device did not make, is an
    /// empty cache.
    pub fn start(config: &mut Config<'b>, path: &Path) -> Result<Timing<'b>> {
        let content = read(path)?;
        let mut warning = None;
        if !content.is_empty() {
            match config.timing_cache(&content)? {
                Some(cache) if config.set_timing_cache(&cache)? => {
                    return Ok(Timing { cache, path: path.to_path_buf(), warning });
                }
                _ => {
                    warning = Some(format!(
                        "the timing cache '{}' is of another device or version, or damaged: it was not used, and is \
                         written anew",
                        path.display()
                    ));
                }
            }
        }
        match config.timing_cache(&[])? {
            Some(cache) if config.set_timing_cache(&cache)? => Ok(Timing { cache, path: path.to_path_buf(), warning }),
            _ => bail!(Internal, "TensorRT refuses an empty timing cache"),
        }
    }

    /// Writes the file. What another process wrote meanwhile is kept.
    pub fn finish(&mut self, config: &Config<'b>) -> Result<()> {
        let _lock = FileLock::beside(&self.path)?;
        let there = read(&self.path)?;
        if self.warning.is_none()
            && !there.is_empty()
            && let Some(other) = config.timing_cache(&there)?
        {
            // A file of another device is replaced.
            self.cache.add(&other)?;
        }
        let content = self.cache.content()?;
        if content == there {
            return Ok(());
        }
        let mut file = AtomicFile::create(&self.path)?;
        file.write(&content)?;
        file.commit()
    }
}

/// The file's content; nothing if there is no file.
fn read(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(content) => Ok(content),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(format_args!("cannot read the timing cache '{}'", path.display()), &e)),
    }
}
