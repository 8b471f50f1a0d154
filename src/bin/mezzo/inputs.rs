//! The values that `run`, `compare` and `bench` give to a model's inputs: files, or seeded random numbers.

use crate::load::{self, Source};
use crate::{npy, output};
use mezzo::backend::{IoDim, IoInfo, TensorValue, Value};
use mezzo::engine::{parse_dims, random_inputs};
use mezzo::hash::HashMap;
use mezzo::{Result, bail, err};
use std::path::Path;

/// Where the values come from.
#[derive(Clone, clap::Args)]
pub struct InputArgs {
    /// The values of an input (repeatable)
    #[arg(long = "input", value_name = "NAME=FILE.npy")]
    files: Vec<String>,
    /// Random values from this seed for the inputs without a file
    #[arg(long, value_name = "SEED")]
    random_inputs: Option<u64>,
    #[command(flatten)]
    pub source: Source,
}

/// A value for every input.
pub struct Inputs {
    /// Name and value, in the engine's order.
    pub values: Vec<(String, Value)>,
    /// The seed, where some are random.
    pub seed: Option<u64>,
}

impl Inputs {
    /// What a reader of the results has to know of random inputs: the seed, and the shapes, which may be ours.
    pub fn note(&self) -> Option<String> {
        let shape = |(name, value): &(String, Value)| match value {
            Value::Tensor(t) => format!("{} {}", output::printable(name), output::shape(t.dims())),
            other => format!("{}: {}", output::printable(name), other.kind()),
        };
        let shapes: Vec<String> = self.values.iter().map(shape).collect();
        self.seed.map(|seed| format!("random inputs, seed {seed}: {}", shapes.join(", ")))
    }
}

impl InputArgs {
    /// True when any of the options was given.
    pub fn given(&self) -> bool {
        !self.files.is_empty() || self.random_inputs.is_some() || !self.source.input_shape.is_empty()
    }

    /// The inputs of a model from that file: shapes given for an archive of PyTorch are the model's already.
    pub fn of(&self, file: &Path) -> InputArgs {
        let mut own = self.clone();
        if load::is_archive(file) {
            own.source.input_shape.clear();
        }
        own
    }

    /// The same with random values from that seed.
    pub fn seeded(&self, seed: u64) -> InputArgs {
        InputArgs { random_inputs: Some(seed), ..self.clone() }
    }

    /// A value for every input of `ios`. Without a seed of the user's, inputs without a file get random values from
    /// `default_seed`, or are an error where there is none.
    pub fn gather(&self, ios: &[IoInfo], default_seed: Option<u64>) -> Result<Inputs> {
        let mut given: HashMap<&str, Value> = HashMap::default();
        for text in &self.files {
            let (io, file) = assignment(text, ios, "--input", "NAME=FILE.npy")?;
            let value = from_file(io, Path::new(file))?;
            if given.insert(&io.name, value).is_some() {
                bail!(InvalidArgument, "input '{}' has two files: give --input once for each input", io.name);
            }
        }
        let missing: Vec<&IoInfo> = ios.iter().filter(|io| !given.contains_key(&*io.name)).collect();
        let seed = self.random_inputs.or(default_seed).filter(|_| !missing.is_empty());
        let mut shapes = self.shapes(ios, &given)?;
        let Some(seed) = seed else {
            if !missing.is_empty() {
                bail!(
                    InvalidArgument,
                    "no values for {}: give --input NAME=FILE.npy for each, or --random-inputs SEED",
                    list(missing.iter().copied())
                );
            }
            let values = ios.iter().filter_map(|io| given.remove_entry(&*io.name));
            return Ok(Inputs { values: values.map(|(n, v)| (n.to_string(), v)).collect(), seed: None });
        };
        complete(&mut shapes, ios, &given);
        let random: Vec<IoInfo> = missing.into_iter().cloned().collect();
        let random: HashMap<String, Value> =
            random_inputs(&random, seed, &shapes).map_err(|e| e.context("random inputs"))?.into_iter().collect();
        let value = |io: &IoInfo| given.get(&*io.name).or_else(|| random.get(&io.name)).cloned();
        let values = ios.iter().filter_map(|io| Some((io.name.clone(), value(io)?))).collect();
        Ok(Inputs { values, seed: Some(seed) })
    }

    /// The shapes that the user gives.
    fn shapes(&self, ios: &[IoInfo], given: &HashMap<&str, Value>) -> Result<HashMap<String, Vec<usize>>> {
        let mut shapes = HashMap::default();
        for text in &self.source.input_shape {
            let (io, shape) = assignment(text, ios, "--input-shape", "NAME=1x3x224x224")?;
            if given.contains_key(&*io.name) {
                bail!(
                    InvalidArgument,
                    "input '{}' has a file, which brings its own shape: leave --input-shape away",
                    io.name
                );
            }
            if shapes.insert(io.name.clone(), parse_dims(shape)?).is_some() {
                bail!(InvalidArgument, "input '{}' has two shapes: give --input-shape once for each input", io.name);
            }
        }
        Ok(shapes)
    }
}

/// Splits NAME=REST where NAME is an input; names may contain `=` themselves.
fn assignment<'i, 't>(text: &'t str, ios: &'i [IoInfo], option: &str, form: &str) -> Result<(&'i IoInfo, &'t str)> {
    let find = |name: &str| ios.iter().find(|io| io.name == name);
    let splits = || text.match_indices('=').map(|(i, _)| (&text[..i], &text[i + 1..]));
    if let Some(found) = splits().find_map(|(name, rest)| Some((find(name)?, rest))) {
        return Ok(found);
    }
    match splits().next() {
        Some((name, _)) => bail!(NotFound, "there is no input '{name}': the inputs are {}", list(ios.iter())),
        None => bail!(InvalidArgument, "'{option} {text}' is not understood: give {option} {form}"),
    }
}

fn list<'a>(ios: impl Iterator<Item = &'a IoInfo>) -> String {
    let names: Vec<String> = ios.map(|io| format!("'{}' ({})", io.name, io.text)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The file's values, floats in the width that the input has.
fn from_file(io: &IoInfo, path: &Path) -> Result<Value> {
    fitting(io, npy::read(path)?, path)
}

/// The array as a value for the input; `path` is where it comes from, for messages.
pub fn fitting(io: &IoInfo, tensor: TensorValue, path: &Path) -> Result<Value> {
    let want = io
        .data_type()
        .ok_or_else(|| err!(Unsupported, "input '{}' is {}, which a .npy file cannot hold", io.name, io.text))?;
    Ok(Value::Tensor(fit(io, tensor, want, path)?))
}

fn fit(io: &IoInfo, tensor: TensorValue, want: mezzo::model::DataType, path: &Path) -> Result<TensorValue> {
    let have = tensor.dtype();
    if have == want {
        return Ok(tensor);
    }
    if !(have.is_float() && want.is_float()) {
        bail!(
            TypeMismatch,
            "input '{}' expects {}, but '{}' holds {have}: save the array as {}",
            io.name,
            io.text,
            path.display(),
            npy::type_name(want).unwrap_or("another type")
        );
    }
    output::note(&format!("input '{}': '{}' holds {have}, converted to {want}", io.name, path.display()));
    tensor.to_float(want)
}

/// Gives the inputs without a shape one that agrees with the others': equal names of dimensions are equal sizes.
fn complete(shapes: &mut HashMap<String, Vec<usize>>, ios: &[IoInfo], given: &HashMap<&str, Value>) {
    let mut sizes: HashMap<&str, usize> = HashMap::default();
    for io in ios {
        let dims = match given.get(&*io.name) {
            Some(Value::Tensor(t)) => t.dims(),
            _ => shapes.get(&io.name).map_or(&[][..], Vec::as_slice),
        };
        for (declared, size) in io.shape.iter().flatten().zip(dims) {
            if let IoDim::Symbol(name) = declared {
                // Paddle's exporter names every dimension that it does not know "?".
                if name != "?" {
                    sizes.entry(name).or_insert(*size);
                }
            }
        }
    }
    for io in ios.iter().filter(|io| !given.contains_key(&*io.name)) {
        let Some(declared) = &io.shape else { continue };
        let size = |d: &IoDim| match d {
            IoDim::Size(n) => usize::try_from(*n).unwrap_or(1),
            IoDim::Symbol(name) => sizes.get(name.as_str()).copied().unwrap_or(1),
            IoDim::Any => 1,
        };
        shapes.entry(io.name.clone()).or_insert_with(|| declared.iter().map(size).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezzo::model::{DataType, Dim, ValueInfo, ValueType};

    fn io(name: &str, dims: Vec<Dim>) -> IoInfo {
        IoInfo::of(&ValueInfo::new(name, ValueType::tensor(DataType::Float32, Some(dims))))
    }

    fn args(random_inputs: Option<u64>, input_shape: &[&str]) -> InputArgs {
        let input_shape = input_shape.iter().map(|s| s.to_string()).collect();
        InputArgs { files: vec![], random_inputs, source: Source { input_shape, force_eval: false } }
    }

    #[test]
    fn random_shapes_agree_by_name() {
        let any = Dim::unknown;
        let ios = [
            io("a=b", vec![Dim::symbol("N"), Dim::symbol("S")]),
            io("c", vec![Dim::symbol("N"), Dim::known(3), Dim::symbol("S"), any(), Dim::symbol("M")]),
            io("d", vec![Dim::symbol("?"), Dim::symbol("?")]),
        ];
        let got = args(Some(7), &["a=b=2x5", "d=4x6"]).gather(&ios, None).unwrap();
        let dims = |i: usize| got.values[i].1.as_tensor().unwrap().dims().to_vec();
        assert_eq!((dims(0), dims(1), dims(2)), (vec![2, 5], vec![2, 3, 5, 1, 1], vec![4, 6]));
        assert_eq!(got.seed, Some(7));
        assert!(args(None, &[]).gather(&ios, Some(0)).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let ios = [io("x", vec![Dim::symbol("N")])];
        for (args, words) in [
            (args(None, &[]), &["'x'", "--random-inputs"][..]),
            (args(None, &["x"]), &["NAME=1x3x224x224"]),
            (args(Some(0), &["y=1"]), &["'y'", "'x'", "fp32 [N]"]),
            (args(Some(0), &["x=1", "x=2"]), &["'x'", "two shapes"]),
            (args(Some(0), &["x=a"]), &["'a'", "shape"]),
        ] {
            let e = args.gather(&ios, None).err().expect(words[0]);
            assert!(words.iter().all(|w| e.message().contains(w)), "{e}");
        }
        assert!(args(None, &[]).gather(&[], None).unwrap().values.is_empty());
    }
}
