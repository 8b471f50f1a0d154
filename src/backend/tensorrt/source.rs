//! How the parser gets the model: in memory, or through files where one protobuf message does not hold it.

use crate::error::Error;
use crate::frontend::onnx::{self, SaveExternal};
use crate::model::Model;
use crate::sys::tensorrt::{Network, ParseFailure, ParsedNetwork};
use crate::{Result, err};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The most bytes that go to the parser in one message: below protobuf's 2 GB, with room for what is no weight.
const MAX_IN_MEMORY: u64 = 1 << 31;

/// A model in a form that the parser reads. It must live until the plan is built.
pub enum Source {
    /// One protobuf message.
    Memory(Vec<u8>),
    /// A model file with its weights beside it, in a folder of its own that goes with this.
    Files(Scratch),
}

impl Source {
    /// Writes the model: to a folder in `scratch` if that is given, or if it is too large for memory, then by default in the
    /// system's folder for temporary files.
    pub fn of(model: &Model, scratch: Option<&Path>) -> Result<Source> {
        if scratch.is_none() && model.weight_bytes() < MAX_IN_MEMORY - (64 << 20) {
            return Ok(Source::Memory(onnx::to_bytes(model)?));
        }
        let scratch = Scratch::new(scratch.map_or_else(std::env::temp_dir, Path::to_path_buf))?;
        onnx::save_file(model, &scratch.model(), SaveExternal::Always)?;
        Ok(Source::Files(scratch))
    }

    /// Fills a network.
    pub fn parse<'b>(&self, network: Network<'b>) -> std::result::Result<ParsedNetwork<'b>, ParseFailure> {
        match self {
            Source::Memory(bytes) => network.parse(bytes),
            Source::Files(scratch) => network.parse_file(&scratch.model()),
        }
    }
}

/// A folder that is taken away when this is dropped.
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new(parent: PathBuf) -> Result<Scratch> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        for _ in 0..1000 {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let folder = parent.join(format!("mezzo-model-{}-{number}", std::process::id()));
            match create(&folder) {
                Ok(()) => return Ok(Scratch { folder }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let what =
                        format_args!("cannot write the model for the parser to a folder in '{}'", parent.display());
                    return Err(Error::io(what, &e)
                        .context("set 'tensorrt.scratch_folder' to a folder with room for the model"));
                }
            }
        }
        Err(err!(InvalidState, "'{}' has a thousand folders of this process", parent.display()))
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }
}

/// Only the process's user may look inside: the weights are there.
fn create(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be taken away is the system's to clean: it is a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
