//! PyTorch's archives, read without libtorch: `.pt2` (torch.export) and TorchScript (docs/torch-lowering.md).
//!
//! Both readers walk their own form of the program and make ATen calls on [`lower::Lowering`], which emits a graph of
//! ONNX operators. Nothing in a file is ever executed.

pub mod archive;
pub mod lower;
mod options;
pub mod pickle;
pub mod pt2;
mod sniff;
pub mod torchscript;

pub use options::{InputSpec, Options};
pub use sniff::looks_like_torch;

use crate::model::Model;
use crate::{Result, bail, err};
use bytes::Bytes;

/// The walk is recursive like the programs it walks; its depth is bounded so that this is enough.
const STACK: usize = 256 << 20;

/// Loads a PyTorch archive of any form that holds a program.
pub fn load_bytes(bytes: Bytes, options: &Options) -> Result<Model> {
    let read = || {
        let archive = sniff::program_of(bytes)?;
        if pt2::is_pt2(archive.names()) {
            if let Some(spec) = options.inputs.first() {
                bail!(
                    InvalidArgument,
                    "an input shape is given ('{}'), but a .pt2 file says itself which shapes it takes: leave it out",
                    spec.text
                );
            }
            return pt2::read(&archive, &pt2::Options { mutations: options.mutations });
        }
        torchscript::read(archive, options)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mezzo-torch".into()).stack_size(STACK).spawn_scoped(scope, read);
        let thread = thread.map_err(|e| crate::Error::io("cannot start a thread to read the archive", &e))?;
        thread.join().unwrap_or_else(|_| Err(err!(Internal, "reading the PyTorch archive failed within the library")))
    })
}
