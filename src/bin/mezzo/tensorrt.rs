//! Options of the TensorRT backends on the command line.

use crate::load::size;
use mezzo::backend::tensorrt::{ComputeCapability, HardwareCompatibility, TacticSource, Verbosity};
use mezzo::backend::{BuildOptions, TensorRtOptions, parse_profile};
use mezzo::{Result, bail};
use std::path::PathBuf;

/// What a build for TensorRT or TensorRT-RTX takes.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "TensorRT")]
pub struct TensorRt {
    /// Smallest, most frequent and largest shapes of dynamic inputs, as in image=1x3x224x224:8x3x224x224:32x3x224x224
    /// (several inputs separated by semicolons; values of an input that is a shape in brackets). May be given several times
    #[arg(long, value_name = "INPUT=MIN:OPT:MAX")]
    profile: Vec<String>,
    /// TensorRT's library: a file or a folder, instead of the places it is looked for
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// The device that the engine is built for, from 0; 'mezzo devices' lists them
    #[arg(long, value_name = "N")]
    device: Option<usize>,
    /// Accept versions that are newer than the tested ones
    #[arg(long)]
    allow_untested: bool,
    /// The most scratch memory of the engine, as in 500M or 2G
    #[arg(long, value_name = "BYTES", value_parser = size)]
    workspace: Option<usize>,
    /// How long TensorRT searches for the best kernels, 0 to 5
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(0..=5))]
    optimization_level: Option<i32>,
    /// Whether FP32 matrix products may run in TF32
    #[arg(long, value_name = "BOOL")]
    tf32: Option<bool>,
    /// A file with the timings of earlier builds: read, used, and written after the build
    #[arg(long, value_name = "FILE")]
    timing_cache: Option<PathBuf>,
    /// Where kernels may come from: cublas, cublas_lt, cudnn, edge_mask_convolutions, jit_convolutions
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tactic_sources: Option<Vec<String>>,
    /// Where the engine runs beside the kind of device it is built on: none, ampere_plus or same_compute_capability
    #[arg(long, value_name = "LEVEL")]
    hardware_compatibility: Option<String>,
    /// Make an engine that other versions of the same major version run too
    #[arg(long)]
    version_compatible: bool,
    /// What a TensorRT-RTX engine is built for, as in 8.6,12.0; or 'current'
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    compute_capability: Vec<String>,
    /// How much the engine tells of its layers: detailed (the default), layer_names or none
    #[arg(long, value_name = "LEVEL")]
    verbosity: Option<String>,
    /// The most streams beside the main one that the engine uses
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=64))]
    aux_streams: Option<i32>,
    /// A folder through which models above 2 GB go to TensorRT's parser, instead of the system's temporary one
    #[arg(long, value_name = "FOLDER")]
    scratch_folder: Option<PathBuf>,
    /// Fail if layers of an FP16 model run in float
    #[arg(long)]
    require_fp16: bool,
}

impl TensorRt {
    /// Adds these to the options of a build; an error if some are given and the backend is another.
    pub fn add_to(&self, options: &mut BuildOptions, backend: &str) -> Result<()> {
        if !backend.starts_with("tensorrt") {
            return self.refuse(backend);
        }
        for profile in &self.profile {
            options.profiles.push(parse_profile(profile)?);
        }
        options.device = self.device.unwrap_or(0);
        let sources = |names: &Vec<String>| {
            names.iter().filter(|n| !n.is_empty()).map(|n| TacticSource::parse(n)).collect::<Result<Vec<_>>>()
        };
        options.tensorrt = TensorRtOptions {
            library: self.library.clone(),
            allow_untested: self.allow_untested,
            workspace: self.workspace,
            optimization_level: self.optimization_level,
            tf32: self.tf32,
            timing_cache: self.timing_cache.clone(),
            tactic_sources: self.tactic_sources.as_ref().map(sources).transpose()?,
            hardware_compatibility: self
                .hardware_compatibility
                .as_deref()
                .map(HardwareCompatibility::parse)
                .transpose()?,
            version_compatible: self.version_compatible,
            compute_capabilities: (self.compute_capability.iter())
                .map(|c| ComputeCapability::parse(c))
                .collect::<Result<_>>()?,
            verbosity: self.verbosity.as_deref().map(Verbosity::parse).transpose()?.unwrap_or_default(),
            aux_streams: self.aux_streams,
            scratch_folder: self.scratch_folder.clone(),
            require_fp16: self.require_fp16,
        };
        Ok(())
    }

    fn refuse(&self, backend: &str) -> Result<()> {
        let given = [
            ("profile", !self.profile.is_empty()),
            ("library", self.library.is_some()),
            ("device", self.device.is_some()),
            ("allow-untested", self.allow_untested),
            ("workspace", self.workspace.is_some()),
            ("optimization-level", self.optimization_level.is_some()),
            ("tf32", self.tf32.is_some()),
            ("timing-cache", self.timing_cache.is_some()),
            ("tactic-sources", self.tactic_sources.is_some()),
            ("hardware-compatibility", self.hardware_compatibility.is_some()),
            ("version-compatible", self.version_compatible),
            ("compute-capability", !self.compute_capability.is_empty()),
            ("verbosity", self.verbosity.is_some()),
            ("aux-streams", self.aux_streams.is_some()),
            ("scratch-folder", self.scratch_folder.is_some()),
            ("require-fp16", self.require_fp16),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            bail!(
                InvalidArgument,
                "--{name} is an option of the backends tensorrt and tensorrt-rtx, and the backend is '{backend}': give \
                 --backend tensorrt, or leave it away"
            );
        }
        Ok(())
    }
}
