//! Ranges of shapes that an engine is made for.

use super::IoDim;
use super::IoInfo;
use crate::{Result, bail, err};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The smallest, the most frequent and the largest shape of an input; or, for an input that is itself a shape, its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeRange {
    /// The smallest.
    pub min: Vec<i64>,
    /// The one to optimise for.
    pub opt: Vec<i64>,
    /// The largest.
    pub max: Vec<i64>,
    /// True if these are the values of an input that the model uses as a shape, not its dimensions.
    pub values: bool,
}

/// The ranges of the dynamic inputs, by name.
pub type ShapeProfile = BTreeMap<String, ShapeRange>;

/// Reads "image=1x3x224x224:8x3x224x224:32x3x224x224;mask=1x10": ranges of several inputs, separated by semicolons.
/// Values of an input that is a shape stand in brackets: "size=[224,224]:[224,224]:[512,512]".
pub fn parse_profile(text: &str) -> Result<ShapeProfile> {
    let mut profile = ShapeProfile::new();
    for part in text.split(';') {
        // An input's name may have an equals sign, a range has none.
        let Some((name, range)) = part.rsplit_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!(InvalidArgument, "'{part}' in a profile is not INPUT=MIN:OPT:MAX");
        };
        if profile.insert(name.to_string(), ShapeRange::parse(range)?).is_some() {
            bail!(InvalidArgument, "the profile '{text}' has two ranges for input '{name}'");
        }
    }
    Ok(profile)
}

impl ShapeRange {
    /// Reads "1x3x224x224:8x3x224x224:32x3x224x224" (min, opt, max), or one shape that is all three.
    pub fn parse(text: &str) -> Result<ShapeRange> {
        let values = text.starts_with('[');
        let shape = |part: &str| -> Option<Vec<i64>> {
            if values {
                let inner = part.strip_prefix('[')?.strip_suffix(']')?;
                return inner.split(',').map(|n| n.trim().parse::<i64>().ok()).collect();
            }
            part.split('x').map(|n| n.trim().parse::<i64>().ok().filter(|n| *n >= 0)).collect()
        };
        let shapes: Option<Vec<Vec<i64>>> = text.split(':').map(shape).collect();
        let range = |min: &[i64], opt: &[i64], max: &[i64]| ShapeRange {
            min: min.to_vec(),
            opt: opt.to_vec(),
            max: max.to_vec(),
            values,
        };
        match shapes.as_deref() {
            Some([all]) => Ok(range(all, all, all)),
            Some([min, opt, max]) => Ok(range(min, opt, max)),
            _ => bail!(
                InvalidArgument,
                "'{text}' is not a range of shapes: give MIN:OPT:MAX, as in 1x3x224x224:8x3x224x224:32x3x224x224, or one \
                 shape; values of an input that is a shape stand in brackets, as in [1,64]:[1,64]:[8,64]"
            ),
        }
    }

    /// An error if the range does not fit the declared shape of an input.
    pub fn check(&self, input: &IoInfo) -> Result<()> {
        let name = &input.name;
        if self.values {
            return self.check_values(input);
        }
        let Some(declared) = &input.shape else { return Ok(()) };
        for (which, shape) in [("min", &self.min), ("opt", &self.opt), ("max", &self.max)] {
            if shape.len() != declared.len() {
                bail!(
                    ShapeMismatch,
                    "the {which} shape of input '{name}' has {} dimensions, the model's has {}: {}",
                    shape.len(),
                    declared.len(),
                    input.text
                );
            }
            for (i, (given, dim)) in shape.iter().zip(declared).enumerate() {
                if let IoDim::Size(n) = dim
                    && n != given
                {
                    bail!(
                        ShapeMismatch,
                        "the {which} shape of input '{name}' has {given} as dimension {i}, which the model fixes at {n}: {}",
                        input.text
                    );
                }
            }
        }
        self.in_order(name)
    }

    /// The same for values: as many in each, and as many as the input has elements.
    fn check_values(&self, input: &IoInfo) -> Result<()> {
        let name = &input.name;
        let declared = match input.shape.as_deref() {
            Some([]) => Some(1),
            Some([IoDim::Size(n)]) => usize::try_from(*n).ok(),
            Some([_]) | None => None,
            Some(_) => bail!(
                InvalidArgument,
                "a profile has values for input '{name}', which has more than one dimension and so is no shape: {}",
                input.text
            ),
        };
        let count = declared.unwrap_or(self.opt.len());
        if [&self.min, &self.opt, &self.max].iter().any(|v| v.len() != count) {
            bail!(ShapeMismatch, "a profile has other than {count} values for input '{name}': {}", input.text);
        }
        self.in_order(name)
    }

    fn in_order(&self, name: &str) -> Result<()> {
        let in_order = |a: &[i64], b: &[i64]| a.iter().zip(b).all(|(a, b)| a <= b);
        if !in_order(&self.min, &self.opt) || !in_order(&self.opt, &self.max) {
            bail!(
                InvalidArgument,
                "the shapes (or values) of input '{name}' are not in order: min {:?}, opt {:?}, max {:?}; every dimension must have \
                 min <= opt <= max",
                self.min,
                self.opt,
                self.max
            );
        }
        Ok(())
    }
}

/// Checks profiles against the inputs of a model: every dynamic input has a fitting range in every profile, and no name
/// is unknown.
pub fn check(profiles: &[ShapeProfile], inputs: &[IoInfo]) -> Result<()> {
    let dynamic = |io: &&IoInfo| io.shape.as_ref().is_none_or(|dims| dims.iter().any(|d| !matches!(d, IoDim::Size(_))));
    if profiles.is_empty()
        && let Some(io) = inputs.iter().find(dynamic)
    {
        bail!(
            InvalidArgument,
            "input '{}' has a dynamic shape, {}: give its smallest, most frequent and largest shape in a profile, or fix \
             the shape in the model",
            io.name,
            io.text
        );
    }
    for profile in profiles {
        for (name, range) in profile {
            let input = inputs.iter().find(|io| io.name == *name);
            range.check(input.ok_or_else(|| {
                let names: Vec<&str> = inputs.iter().map(|io| &*io.name).collect();
                err!(NotFound, "a profile has a shape for '{name}', and the model's inputs are: {}", names.join(", "))
            })?)?;
        }
        if let Some(io) = inputs.iter().filter(dynamic).find(|io| !profile.contains_key(&io.name)) {
            bail!(InvalidArgument, "a profile has no shapes for input '{}', which is dynamic: {}", io.name, io.text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DataType, Dim, ValueInfo, ValueType};

    fn inputs() -> Vec<IoInfo> {
        let io = |name: &str, dims| IoInfo::of(&ValueInfo::new(name, ValueType::tensor(DataType::Float32, Some(dims))));
        vec![io("x", vec![Dim::symbol("N"), Dim::known(3)]), io("fixed", vec![Dim::known(2)])]
    }

    fn profile(name: &str, range: &str) -> Vec<ShapeProfile> {
        vec![ShapeProfile::from([(name.to_string(), ShapeRange::parse(range).unwrap())])]
    }

    #[test]
    fn ranges_are_read() {
        let range = ShapeRange::parse("1x3:4x3:8x3").unwrap();
        assert_eq!((range.min, range.opt, range.max), (vec![1, 3], vec![4, 3], vec![8, 3]));
        assert_eq!(ShapeRange::parse("2x3").unwrap().opt, [2, 3]);
        let range = ShapeRange::parse("[1,-1]:[4,3]:[8,3]").unwrap();
        assert_eq!((range.min, range.max, range.values), (vec![1, -1], vec![8, 3], true));
        for bad in ["", "1x3:2x3", "1x3:2x3:3x3:4x3", "ax3", "-1x3", "1x:2x:3x", "[1", "[1]:2:3", "[]", "[a]"] {
            assert!(ShapeRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_are_read() {
        let profile = parse_profile("x=1x3:4x3:8x3;a=b=2").unwrap();
        assert_eq!((profile["x"].max.as_slice(), profile["a=b"].min.as_slice()), ([8, 3].as_slice(), [2].as_slice()));
        for bad in ["", "x", "=1x3", "x=", "x=1;x=2", "x=1;"] {
            assert!(parse_profile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_must_fit_the_inputs() {
        check(&profile("x", "1x3:4x3:8x3"), &inputs()).unwrap();
        let refused = |profiles: &[ShapeProfile]| check(profiles, &inputs()).unwrap_err().message().to_string();
        assert!(refused(&[]).contains("input 'x' has a dynamic shape"));
        assert!(refused(&[ShapeProfile::new()]).contains("no shapes for input 'x'"));
        assert!(refused(&profile("y", "1")).contains("'y'"));
        assert!(refused(&profile("x", "1x3x1")).contains("3 dimensions"));
        assert!(refused(&profile("x", "1x4")).contains("fixes at 3"));
        assert!(refused(&profile("x", "4x3:1x3:8x3")).contains("not in order"));
    }
}
