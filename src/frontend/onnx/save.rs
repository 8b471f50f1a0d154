//! Where tensors go on saving, and the files they go to.

use super::wire::{self, Measured};
use super::write::{self, Outside};
use super::{SaveExternal, Split};
use crate::model::graph::NamedTensor;
use crate::model::{AttributeValue, Graph, Model, Node, SparseTensor, Tensor};
use crate::sys::atomic_file::{AtomicFile, commit_all};
use crate::{Result, bail, err};
use std::path::Path;

/// Protobuf's own limit on one message.
const MAX_MESSAGE: u64 = i32::MAX as u64;
/// Smaller tensors stay in the message, as onnx's own writer has it.
const MIN_EXTERNAL: usize = 1024;
/// Tensors of this size and more begin at a page, so that readers can map them.
const LARGE: usize = 1 << 20;
const PAGE: u64 = 4096;
/// The others are aligned for vector loads.
const SMALL_ALIGNMENT: u64 = 64;

/// Tensors laid out one after the other.
struct Layout {
    outside: Outside,
    tensors: Vec<(u64, Tensor)>,
    len: u64,
}

impl Layout {
    fn new(location: &str) -> Self {
        let outside = Outside { location: location.to_owned(), ..Outside::default() };
        Layout { outside, tensors: Vec::new(), len: 0 }
    }

    /// Gives a tensor its place, unless the same bytes have one.
    fn place(&mut self, tensor: &Tensor, alignment: u64) {
        let Some(key) = tensor.source_key() else { return };
        if self.outside.offsets.contains_key(&key) {
            return;
        }
        let offset = self.len.next_multiple_of(alignment);
        self.outside.offsets.insert(key, offset);
        self.len = offset + tensor.byte_len() as u64;
        self.tensors.push((offset, tensor.clone()));
    }
}

/// Calls `f` on every tensor of the model, in the order of writing; true for initializers.
fn visit(model: &Model, f: &mut dyn FnMut(&NamedTensor, bool)) {
    visit_graph(&model.graph, f);
    for function in &model.functions {
        function.nodes.iter().for_each(|n| visit_node(n, f));
    }
}

fn visit_graph(g: &Graph, f: &mut dyn FnMut(&NamedTensor, bool)) {
    g.nodes.iter().for_each(|n| visit_node(n, f));
    g.initializers.iter().for_each(|i| f(i, true));
    g.sparse_initializers.iter().for_each(|s| visit_sparse(s, f));
}

fn visit_sparse(s: &SparseTensor, f: &mut dyn FnMut(&NamedTensor, bool)) {
    f(&s.values, false);
    f(&s.indices, false);
}

fn visit_node(n: &Node, f: &mut dyn FnMut(&NamedTensor, bool)) {
    for a in &n.attributes {
        match &a.value {
            AttributeValue::Tensor(t) => f(t, false),
            AttributeValue::Tensors(ts) => ts.iter().for_each(|t| f(t, false)),
            AttributeValue::SparseTensor(s) => visit_sparse(s, f),
            AttributeValue::SparseTensors(ss) => ss.iter().for_each(|s| visit_sparse(s, f)),
            AttributeValue::Graph(g) => visit_graph(g, f),
            AttributeValue::Graphs(gs) => gs.iter().for_each(|g| visit_graph(g, f)),
            _ => {}
        }
    }
}

fn measure(model: &Model, outside: &Outside) -> Result<Measured> {
    wire::measure(|w| write::model(w, model, outside))
}

fn encode(model: &Model, outside: &Outside, measured: Measured) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let total = measured.total;
    usize::try_from(total).ok().and_then(|n| out.try_reserve_exact(n).ok()).ok_or_else(|| {
        err!(OutOfMemory, "the encoded model of {total} bytes does not fit in memory: save it to a file")
    })?;
    let mut sink = |b: &[u8]| {
        out.extend_from_slice(b);
        Ok(())
    };
    wire::write(measured, &mut sink, |w| write::model(w, model, outside))?;
    Ok(out)
}

/// See [`super::to_bytes`].
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    let outside = Outside::default();
    let measured = measure(model, &outside)?;
    if measured.total > MAX_MESSAGE {
        bail!(
            Unsupported,
            "the model has {} bytes, and one protobuf message holds at most {MAX_MESSAGE}: save it to a file, whose weights \
             can stand in a second one",
            measured.total
        );
    }
    encode(model, &outside, measured)
}

/// See [`super::split`].
pub fn split(model: &Model, location: &str, alignment: u64, min_bytes: usize) -> Result<Split> {
    if alignment == 0 {
        bail!(InvalidArgument, "an alignment of 0 bytes is none: give 1 or more");
    }
    let mut layout = Layout::new(location);
    visit(model, &mut |t, _| {
        if t.tensor.byte_len() >= min_bytes {
            layout.place(&t.tensor, alignment);
        }
    });
    let measured = measure(model, &layout.outside)?;
    if measured.total > MAX_MESSAGE {
        bail!(
            Unsupported,
            "the model has {} bytes without its larger weights: too many for one message",
            measured.total
        );
    }
    let graph = encode(model, &layout.outside, measured)?;
    Ok(Split { graph, tensors: layout.tensors, weights_len: layout.len })
}

/// See [`super::save_file`].
pub fn save_file(model: &Model, path: &Path, external: SaveExternal) -> Result<()> {
    if external != SaveExternal::Always {
        let outside = Outside::default();
        let measured = measure(model, &outside)?;
        if measured.total <= MAX_MESSAGE {
            let mut file = AtomicFile::create(path)?;
            write_model(&mut file, model, &outside, measured)?;
            return file.commit();
        }
        if external == SaveExternal::Never {
            bail!(
                Unsupported,
                "cannot write '{}': the model has {} bytes, and one protobuf file holds at most {MAX_MESSAGE}: allow \
                 external data",
                path.display(),
                measured.total
            );
        }
    }
    save_with_data(model, path)
}

fn save_with_data(model: &Model, path: &Path) -> Result<()> {
    let named = || err!(InvalidArgument, "cannot write '{}': give a file name in UTF-8", path.display());
    let location = format!("{}.data", path.file_name().and_then(|n| n.to_str()).ok_or_else(named)?);
    let mut layout = Layout::new(&location);
    visit(model, &mut |t, initializer| {
        let len = t.tensor.byte_len();
        // Readers expect external data in initializers; in attributes it is left to what would not fit otherwise.
        if len >= if initializer { MIN_EXTERNAL } else { LARGE } {
            layout.place(&t.tensor, if len >= LARGE { PAGE } else { SMALL_ALIGNMENT });
        }
    });
    let measured = measure(model, &layout.outside)?;
    if measured.total > MAX_MESSAGE {
        bail!(
            Unsupported,
            "cannot write '{}': without its weights the model still has {} bytes, and one protobuf file holds at most \
             {MAX_MESSAGE}",
            path.display(),
            measured.total
        );
    }
    let mut file = AtomicFile::create(path)?;
    let mut data = AtomicFile::create(&path.with_file_name(&location))?;
    let mut at = 0;
    for (offset, tensor) in &layout.tensors {
        write_zeros(&mut data, offset - at)?;
        tensor.for_each_chunk(|chunk| data.write(chunk))?;
        at = offset + tensor.byte_len() as u64;
    }
    write_model(&mut file, model, &layout.outside, measured)?;
    commit_all(vec![data, file])
}

fn write_model(file: &mut AtomicFile, model: &Model, outside: &Outside, measured: Measured) -> Result<()> {
    let mut sink = |b: &[u8]| file.write(b);
    wire::write(measured, &mut sink, |w| write::model(w, model, outside))
}

fn write_zeros(file: &mut AtomicFile, count: u64) -> Result<()> {
    const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
    // Padding is shorter than an alignment.
    file.write(ZEROS.get(..count as usize).ok_or_else(|| err!(Internal, "a padding of {count} bytes"))?)
}
