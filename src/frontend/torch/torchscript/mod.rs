//! TorchScript archives: source and attributes read, `forward` walked with known shapes, each tensor operator handed to the
//! lowering (docs/torch-script.md).

mod ast;
mod attributes;
mod composed;
mod control;
mod eval;
mod host;
mod inputs;
mod lexer;
mod limits;
mod lists;
mod numbers;
mod operators;
mod parser;
mod program;
mod types;
mod upgrade;
mod value;

use super::archive::Archive;
use super::options::Options;
use crate::model::Model;
use crate::{Result, bail, err};
use attributes::Source;
use eval::Evaluator;
use program::Program;
use value::Val;

/// A model from an archive's entries.
///
/// A program that sets attributes (a recurrent state) is walked twice: the first walk finds what they become, and in the
/// second one those that hold tensors are inputs and outputs of the model.
pub fn read(archive: Archive, options: &Options) -> Result<Model> {
    if let Some(order) = archive.text("byteorder")?
        && order.trim() != "little"
    {
        bail!(Unsupported, "the archive was written on a big-endian machine; save it on a little-endian one");
    }
    let mut first = Evaluator::new(Program::read(archive)?);
    first.allow_training = options.force_eval;
    let outputs = forward(&mut first, options, &[])?;
    if first.state.is_empty() {
        return std::mem::take(&mut first.low).finish(&outputs);
    }
    let state = inputs::state(&mut first)?;
    let mut second = first.again();
    let outputs = forward(&mut second, options, &state)?;
    std::mem::take(&mut second.low).finish(&outputs)
}

type Outputs = Vec<(String, super::lower::Tensor)>;

fn forward(e: &mut Evaluator, options: &Options, state: &[inputs::State]) -> Result<Outputs> {
    let root = e.program.data.root();
    let Val::Object(module) = e.unpickled(Source::Data, root, "", 0)? else {
        bail!(InvalidFile, "'data.pkl' holds no module: the archive is damaged");
    };
    let forward = e.program.method(&module.class, "forward")?.ok_or_else(|| {
        err!(InvalidModel, "the module {} has no method 'forward': it cannot be executed as a model", module.class)
    })?;
    let mut given = vec![Val::Object(module.clone())];
    given.extend(inputs::make(e, &forward, options)?);
    let held = inputs::set_state(e, &module, state)?;
    let result = e.call(&forward, given, Vec::new())?;
    let mut outputs = Vec::new();
    inputs::flatten(e, &result, "output", &mut outputs, 0)?;
    if outputs.is_empty() {
        e.low.refuse_all()?;
        bail!(InvalidModel, "forward() returns no tensor: there is nothing to compute");
    }
    inputs::state_outputs(e, &held, &mut outputs)?;
    Ok(outputs)
}
