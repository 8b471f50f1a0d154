//! `mezzo convert`: a model in FP16 or BF16, and the account of it.

use crate::progress::Progress;
use crate::samples::SampleArgs;
use crate::{load, output};
use clap::ValueEnum;
use mezzo::frontend::onnx;
use mezzo::model::infer::Declarations;
use mezzo::model::{DataType, Model};
use mezzo::precision::{self, ConstantPolicy, ConvertOptions, Converted, Policy};
use mezzo::sys::atomic_file::AtomicFile;
use mezzo::{Result, bail};
use std::path::{Path, PathBuf};

/// Convert a model to FP16 or BF16: weights, constants, casts, inputs and outputs
///
/// Prints what was converted, and every node that stayed in FP32 with its reason. The result has passed the type checker.
#[derive(clap::Args)]
pub struct Args {
    /// The model to convert (ONNX, .pt2, TorchScript)
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the converted model goes; may be IN
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The type to convert to
    #[arg(long, value_enum, default_value_t = Precision::Fp16)]
    precision: Precision,
    #[command(flatten)]
    io: KeepIo,
    /// Keep this input or output in FP32 (repeatable)
    #[arg(long, value_name = "NAME")]
    keep_io_name: Vec<String>,
    /// Convert this input or output in spite of --keep-io (repeatable)
    #[arg(long, value_name = "NAME")]
    convert_io_name: Vec<String>,
    /// Keep nodes of this operator type in FP32: Softmax, or domain::Op (repeatable)
    #[arg(long, value_name = "TYPE")]
    keep_op: Vec<String>,
    /// Keep nodes of this name in FP32; * and ? are wildcards (repeatable)
    #[arg(long, value_name = "GLOB")]
    keep_node: Vec<String>,
    /// Keep the node that makes this value in FP32 (repeatable)
    #[arg(long, value_name = "NAME")]
    keep_output: Vec<String>,
    /// safe: FP32 where half is known to overflow; pure: all that is legal
    #[arg(long, value_enum, default_value_t = PolicyArg::Safe)]
    policy: PolicyArg,
    /// Constants out of range: keep their operator in FP32, clamp them, or fail
    #[arg(long, value_enum, default_value_t = Constants::Keep)]
    constants: Constants,
    /// The element type of an output of an operator that ONNX does not know: fp32, int64, ... (repeatable)
    #[arg(long, value_name = "NAME=TYPE")]
    declare: Vec<String>,
    /// Bring the model to this version of ai.onnx first: many operators take bfloat16 only from 13 or 22 on
    #[arg(long, value_name = "VERSION")]
    opset: Option<i64>,
    /// Fail if fewer of the nodes that can be half are half (0 to 1)
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    min_half_share: f64,
    /// Write the whole report, one entry a node, to this file
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    samples: SampleArgs,
}

/// The option that `convert` and `build` share.
#[derive(clap::Args)]
pub struct KeepIo {
    /// Keep inputs and outputs in FP32
    #[arg(long)]
    keep_io: bool,
}

/// The types to convert to.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Precision {
    /// IEEE half: 10 bits of fraction, to 65504
    Fp16,
    /// bfloat16: 7 bits of fraction, the range of FP32
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PolicyArg {
    Safe,
    Pure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Constants {
    Keep,
    Clamp,
    Error,
}

impl Precision {
    fn data_type(self) -> DataType {
        match self {
            Precision::Fp16 => DataType::Float16,
            Precision::Bf16 => DataType::Bfloat16,
        }
    }
}

impl Args {
    fn options(&self) -> Result<ConvertOptions> {
        if let Some(both) = self.keep_io_name.iter().find(|n| self.convert_io_name.contains(n)) {
            bail!(InvalidArgument, "'{both}' is to be kept and to be converted: give it to one of the two options");
        }
        let kept = self.keep_io_name.iter().map(|n| (n.clone(), true));
        let converted = self.convert_io_name.iter().map(|n| (n.clone(), false));
        Ok(ConvertOptions {
            precision: self.precision.data_type(),
            keep_io: self.io.keep_io,
            keep_io_named: kept.chain(converted).collect(),
            keep_op_types: self.keep_op.clone(),
            keep_node_names: self.keep_node.clone(),
            keep_outputs: self.keep_output.clone(),
            policy: match self.policy {
                PolicyArg::Safe => Policy::Safe,
                PolicyArg::Pure => Policy::Pure,
            },
            constants: match self.constants {
                Constants::Keep => ConstantPolicy::KeepFp32,
                Constants::Clamp => ConstantPolicy::Clamp,
                Constants::Error => ConstantPolicy::Error,
            },
            opset: self.opset,
            ranges: None, // from samples, once the model is loaded
            declared: self.declared()?,
            min_half_share: self.min_half_share,
        })
    }
}

impl Args {
    /// The types that the user gives to outputs of operators that ONNX does not know.
    fn declared(&self) -> Result<Declarations> {
        let mut declared = Declarations::default();
        self.declare.iter().try_for_each(|text| declared.add(text))?;
        Ok(declared)
    }
}

/// The conversion that `build --precision` does first.
pub fn before_build(model: &Model, precision: Precision, io: &KeepIo) -> Result<Converted> {
    let options = ConvertOptions { precision: precision.data_type(), keep_io: io.keep_io, ..ConvertOptions::default() };
    precision::convert(model, &options)
}

impl KeepIo {
    /// True when it was given.
    pub fn given(&self) -> bool {
        self.keep_io
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<()> {
    let mut options = args.options()?;
    // Started first: a report that cannot be written is known before the work.
    let report_file = args.report.as_deref().map(|path| report_file(path, args)).transpose()?;
    let progress = Progress::start("loading the model");
    let model = load::model(&args.input, &args.samples.inputs.source, &progress)?;
    progress.phase("running the samples");
    options.ranges = args.samples.of(&args.input).ranges(&model, &mezzo::backend::Progress::default())?;
    progress.phase("converting");
    let in_input = |e: mezzo::Error| e.context(format_args!("'{}'", args.input.display()));
    let Converted { model, report } = precision::convert(&model, &options).map_err(in_input)?;
    progress.phase("saving the model");
    onnx::save_file(&model, &args.output, onnx::SaveExternal::Auto)?;
    if let Some(mut file) = report_file {
        file.write(report.to_json().as_bytes())?;
        file.write(b"\n")?;
        file.commit()?;
    }
    drop(progress);
    if args.json {
        return output::print(&report.to_json());
    }
    let size = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    let text = output::printable_lines(&report.to_text());
    output::print(&format!("{text}\nwrote '{}', {}", args.output.display(), output::bytes(size)))
}

/// The file for the report, which must not be one of the models.
fn report_file(path: &Path, args: &Args) -> Result<AtomicFile> {
    // A large model has its weights in a second file.
    let with_data = |model: &Path| [model.to_path_buf(), model.with_added_extension("data")];
    let models = [&args.input, &args.output].into_iter().flat_map(|model| with_data(model));
    if models.into_iter().any(|model| output::same_file(&model, path)) {
        bail!(
            InvalidArgument,
            "the report would overwrite the model '{}': give --report a file of its own",
            path.display()
        );
    }
    AtomicFile::create(path)
}
