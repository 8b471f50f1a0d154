//! Options of TensorRT's builder.

use crate::sys::tensorrt::Config;
use crate::{Result, bail, err};
use std::path::PathBuf;

/// Options of TensorRT's builder. What is `None` or empty keeps TensorRT's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorRtOptions {
    /// The library's file or folder; nothing else is tried then.
    pub library: Option<PathBuf>,
    /// Lets versions pass that are newer than the tested ones, with a warning.
    pub allow_untested: bool,
    /// The most scratch memory of the engine, in bytes.
    pub workspace: Option<usize>,
    /// How long the builder searches, 0 to 5.
    pub optimization_level: Option<i32>,
    /// Lets FP32 matrix products run in TF32.
    pub tf32: Option<bool>,
    /// A file with the timings of earlier builds, which is read, used, and written after the build.
    pub timing_cache: Option<PathBuf>,
    /// Where tactics may come from; all other sources are left out.
    pub tactic_sources: Option<Vec<TacticSource>>,
    /// On which devices the engine runs beside the one it is built on.
    pub hardware_compatibility: Option<HardwareCompatibility>,
    /// The engine runs with other versions of the same major version too.
    pub version_compatible: bool,
    /// The compute capabilities that a TensorRT-RTX engine is built for.
    pub compute_capabilities: Vec<ComputeCapability>,
    /// How much the engine tells of itself; by default all.
    pub verbosity: Verbosity,
    /// The most streams beside the main one that the engine uses.
    pub aux_streams: Option<i32>,
    /// A folder through which the model goes to the parser. Models above 2 GB go through the system's folder for temporary
    /// files if none is given, all others through memory.
    pub scratch_folder: Option<PathBuf>,
    /// Makes an engine whose layers are float, where the model is half, an error.
    pub require_fp16: bool,
}

/// Names an enumeration's values: what users write, and TensorRT's own name.
macro_rules! named {
    ($(#[$about:meta])* $name:ident, $what:literal, $($(#[$doc:meta])* $variant:ident = $text:literal, $native:literal;)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// What users may write.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The value that users call so.
            pub fn parse(text: &str) -> Result<$name> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => bail!(InvalidArgument, "'{text}' is no {}: choose one of {}", $what, $name::NAMES.join(", ")),
                }
            }

            /// TensorRT's name.
            fn native(self) -> &'static str {
                match self {
                    $($name::$variant => $native,)*
                }
            }
        }
    };
}

named! {
    /// A library that tactics come from.
    TacticSource, "tactic source",
    /// cuBLAS.
    Cublas = "cublas", "CUBLAS";
    /// cuBLASLt.
    CublasLt = "cublas_lt", "CUBLAS_LT";
    /// cuDNN.
    Cudnn = "cudnn", "CUDNN";
    /// Convolutions with masks at the edges.
    EdgeMaskConvolutions = "edge_mask_convolutions", "EDGE_MASK_CONVOLUTIONS";
    /// Convolutions compiled when the engine is built.
    JitConvolutions = "jit_convolutions", "JIT_CONVOLUTIONS";
}

named! {
    /// On which devices an engine runs.
    HardwareCompatibility, "hardware compatibility",
    /// The kind of device it is built on.
    None = "none", "NONE";
    /// Ampere and newer.
    AmperePlus = "ampere_plus", "AMPERE_PLUS";
    /// Devices of the same compute capability.
    SameComputeCapability = "same_compute_capability", "SAME_COMPUTE_CAPABILITY";
}

named! {
    /// How much an engine tells of itself.
    Verbosity, "profiling verbosity",
    /// All of its layers, with their types.
    Detailed = "detailed", "DETAILED";
    /// The names of its layers.
    LayerNames = "layer_names", "LAYER_NAMES_ONLY";
    /// Nothing.
    None = "none", "NONE";
}

impl Default for Verbosity {
    /// The inspector's account of types is what tells which layers run in half.
    fn default() -> Self {
        Verbosity::Detailed
    }
}

/// A compute capability that a TensorRT-RTX engine is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeCapability {
    /// That of the device at hand.
    Current,
    /// Ten times the major number and the minor one: 86 is 8.6.
    Number(u32),
}

impl ComputeCapability {
    /// Reads "8.6", or "current".
    pub fn parse(text: &str) -> Result<ComputeCapability> {
        if text == "current" {
            return Ok(ComputeCapability::Current);
        }
        let number = text.split_once('.').and_then(|(major, minor)| {
            let minor = minor.parse::<u32>().ok().filter(|m| *m < 10)?;
            major.parse::<u32>().ok().filter(|m| *m < 100)?.checked_mul(10)?.checked_add(minor)
        });
        number.map(ComputeCapability::Number).ok_or_else(|| {
            err!(InvalidArgument, "'{text}' is no compute capability: give its two numbers, as in 8.6, or 'current'")
        })
    }

    fn native(self) -> String {
        match self {
            ComputeCapability::Current => "CURRENT".into(),
            ComputeCapability::Number(n) => format!("SM{n}"),
        }
    }
}

impl TensorRtOptions {
    /// An error for what no version takes.
    pub fn check(&self) -> Result<()> {
        if matches!(self.optimization_level, Some(level) if !(0..=5).contains(&level)) {
            bail!(InvalidArgument, "TensorRT's optimization level goes from 0 to 5");
        }
        if matches!(self.aux_streams, Some(n) if !(0..=64).contains(&n)) {
            bail!(InvalidArgument, "the number of auxiliary streams goes from 0 to 64");
        }
        Ok(())
    }

    /// Sets everything but the timing cache in a configuration. What the version does not have is an error that names the
    /// option.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        let of = |option: &'static str| move |e: crate::Error| e.context(format!("option 'tensorrt.{option}'"));
        if let Some(bytes) = self.workspace {
            config.set_workspace(bytes).map_err(of("workspace"))?;
        }
        if let Some(level) = self.optimization_level {
            config.set_optimization_level(level).map_err(of("optimization_level"))?;
        }
        if let Some(on) = self.tf32 {
            config.set_flag("TF32", on).map_err(of("tf32"))?;
        }
        if let Some(sources) = &self.tactic_sources {
            let names: Vec<&str> = sources.iter().map(|s| s.native()).collect();
            config.set_tactic_sources(&names).map_err(of("tactic_sources"))?;
        }
        if let Some(level) = self.hardware_compatibility {
            config.set_hardware_compatibility(level.native()).map_err(of("hardware_compatibility"))?;
        }
        if self.version_compatible {
            config.set_flag("VERSION_COMPATIBLE", true).map_err(of("version_compatible"))?;
        }
        if !self.compute_capabilities.is_empty() {
            let names: Vec<String> = self.compute_capabilities.iter().map(|c| c.native()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            config.set_compute_capabilities(&names).map_err(of("compute_capabilities"))?;
        }
        if let Some(streams) = self.aux_streams {
            config.set_aux_streams(streams).map_err(of("aux_streams"))?;
        }
        config.set_profiling_verbosity(self.verbosity.native()).map_err(of("verbosity"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(TacticSource::parse("jit_convolutions").unwrap().native(), "JIT_CONVOLUTIONS");
        assert!(TacticSource::parse("cuda").unwrap_err().message().contains("cublas_lt"));
        assert_eq!(HardwareCompatibility::parse("ampere_plus").unwrap(), HardwareCompatibility::AmperePlus);
        assert_eq!(Verbosity::default(), Verbosity::parse("detailed").unwrap());
        assert_eq!(ComputeCapability::parse("8.6").unwrap().native(), "SM86");
        assert_eq!(ComputeCapability::parse("12.0").unwrap().native(), "SM120");
        assert_eq!(ComputeCapability::parse("current").unwrap().native(), "CURRENT");
        for bad in ["86", "8.6.1", "8.x", "", "8.10", "-8.0"] {
            assert!(ComputeCapability::parse(bad).is_err(), "{bad}");
        }
    }
}
