//! Samples for `convert`: the model runs on them, and what leaves half's safe range stays in FP32.

use crate::inputs::{InputArgs, fitting};
use crate::npz;
use crate::output;
use mezzo::backend::Progress;
use mezzo::engine::Env;
use mezzo::model::Model;
use mezzo::precision::{Calibrator, Ranges};
use mezzo::{Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where samples come from.
#[derive(Clone, clap::Args)]
pub struct SampleArgs {
    /// A sample: an archive of numpy.savez with an array for each input (repeatable). What leaves half's safe range on the
    /// samples stays in FP32
    #[arg(long, value_name = "FILE.npz")]
    samples: Vec<PathBuf>,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// How many random samples, from --random-inputs on
    #[arg(long, value_name = "N", default_value_t = 1)]
    random_samples: u64,
}

impl SampleArgs {
    /// The samples of a model from that file.
    pub fn of(&self, file: &Path) -> SampleArgs {
        SampleArgs { inputs: self.inputs.of(file), ..self.clone() }
    }

    /// The ranges of the model's tensors, if there are samples.
    pub fn ranges(&self, model: &Model, progress: &Progress) -> Result<Option<Arc<Ranges>>> {
        if self.samples.is_empty() && !self.inputs.given() {
            return Ok(None);
        }
        let mut calibrator = Calibrator::new(&Env::default_env(), model, 0, progress)?;
        let infos = calibrator.engine().info().inputs.clone();
        for path in &self.samples {
            let at = |e: mezzo::Error| e.context(format_args!("the sample '{}'", path.display()));
            let mut values = Vec::new();
            for (name, array) in npz::read(path)? {
                let Some(io) = infos.iter().find(|io| io.name == name) else {
                    let names: Vec<&str> = infos.iter().map(|io| io.name.as_str()).collect();
                    bail!(
                        NotFound,
                        "'{}' holds an array '{name}', but the model's inputs are {}: name each array as its input",
                        path.display(),
                        names.join(", ")
                    );
                };
                values.push((name, fitting(io, array, path)?));
            }
            calibrator.run(&values).map_err(at)?;
        }
        if self.inputs.given() {
            let first = self.inputs.gather(&infos, None)?;
            if let Some(note) = first.note() {
                output::note(&note);
            }
            calibrator.run(&first.values)?;
            if let Some(seed) = first.seed {
                for k in 1..self.random_samples {
                    calibrator.run(&self.inputs.seeded(seed.wrapping_add(k)).gather(&infos, None)?.values)?;
                }
            }
        }
        Ok(Some(Arc::new(calibrator.ranges().clone())))
    }
}
