//! Versions of TensorRT, and the families whose objects have the same shape.

use crate::{Result, bail};
use std::fmt;

/// What the library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// TensorRT (`libnvinfer`).
    TensorRt,
    /// TensorRT-RTX (`libtensorrt_rtx`).
    Rtx,
}

/// Versions whose virtual tables and client interfaces have one shape. The order is that of the generated tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// TensorRT 8.5.
    V8_5,
    /// TensorRT 8.6.1 and later 8.6.
    V8_6,
    /// TensorRT 10.
    V10,
    /// TensorRT 11.
    V11,
    /// TensorRT-RTX 1.3 and 1.4.
    Rtx1_3,
    /// TensorRT-RTX 1.5 and later 1.x.
    Rtx1_5,
}

/// A library's own version, as its `getInferLibVersion` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    flavour: Flavour,
    native: i32,
    major: u32,
    minor: u32,
    patch: u32,
}

/// The highest minor versions whose headers were measured.
const MEASURED_10: u32 = 16;
const MEASURED_11: u32 = 4;
const MEASURED_RTX: u32 = 7;

impl Flavour {
    /// The name of the product.
    pub fn product(self) -> &'static str {
        match self {
            Flavour::TensorRt => "TensorRT",
            Flavour::Rtx => "TensorRT-RTX",
        }
    }
}

impl Version {
    /// Reads the number that `getInferLibVersion` gives: up to 9.x major*1000 + minor*100 + patch, from 10 on and in
    /// TensorRT-RTX (10000 to 19999) major*10000 + minor*100 + patch.
    pub fn from_native(native: i32) -> Result<Version> {
        let n = native.unsigned_abs();
        let (flavour, unit) = match native {
            1000..=9999 => (Flavour::TensorRt, 1000),
            10_000..=19_999 => (Flavour::Rtx, 10_000),
            100_000..=999_999 => (Flavour::TensorRt, 10_000),
            _ => bail!(Version, "the library gives its version as {native}, which is none that Mezzo knows"),
        };
        Ok(Version { flavour, native, major: n / unit, minor: n % unit / 100, patch: n % 100 })
    }

    /// TensorRT or TensorRT-RTX.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The number that the library itself uses for its version.
    pub fn native(&self) -> i32 {
        self.native
    }

    /// Major version: 8, 10, 11; 1 for TensorRT-RTX.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Minor version.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// "1.7.1".
    pub fn number(&self) -> String {
        format!("{}.{}.{}", self.major, self.minor, self.patch)
    }

    /// The version as the generated tables count: major*10000 + minor*100 + patch in every family.
    pub fn key(&self) -> u32 {
        self.major * 10_000 + self.minor * 100 + self.patch
    }

    /// The family, and true if exactly this minor version was measured. `allow_untested` lets versions pass that are newer
    /// than the measured ones of a known major version; they are taken to be like the newest.
    pub fn family(&self, allow_untested: bool) -> Result<(Family, bool)> {
        use Family::*;
        let (family, measured) = match (self.flavour, self.major, self.minor, self.patch) {
            (Flavour::TensorRt, 8, 5, _) => (V8_5, true),
            (Flavour::TensorRt, 8, 6, 1..) => (V8_6, true),
            (Flavour::TensorRt, 10, minor, _) => (V10, minor <= MEASURED_10),
            (Flavour::TensorRt, 11, minor, _) => (V11, minor <= MEASURED_11),
            (Flavour::Rtx, 1, 3..=4, _) => (Rtx1_3, true),
            (Flavour::Rtx, 1, minor @ 5.., _) => (Rtx1_5, minor <= MEASURED_RTX),
            _ => bail!(
                Version,
                "{self} is not supported: Mezzo calls TensorRT 8.5, 8.6.1, 10.0 to 10.{MEASURED_10}, 11.0 to \
                 11.{MEASURED_11} and TensorRT-RTX 1.3 to 1.{MEASURED_RTX}. Install one of these"
            ),
        };
        if !measured && !allow_untested {
            bail!(
                Version,
                "{self} is newer than what Mezzo was tested with (TensorRT 10.{MEASURED_10} and 11.{MEASURED_11}, \
                 TensorRT-RTX 1.{MEASURED_RTX}), and its objects may have another shape, which would crash or give wrong \
                 results: install a tested version, or set the option 'allow_untested' if you know that it is compatible"
            );
        }
        Ok((family, measured))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour.product(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(native: i32, allow: bool) -> Option<(Family, bool)> {
        Version::from_native(native).and_then(|v| v.family(allow)).ok()
    }

    #[test]
    fn families_follow_the_library_version() {
        for (native, name, expected) in [
            (8503, "TensorRT 8.5.3", Family::V8_5),
            (8601, "TensorRT 8.6.1", Family::V8_6),
            (100_001, "TensorRT 10.0.1", Family::V10),
            (101_600, "TensorRT 10.16.0", Family::V10),
            (110_000, "TensorRT 11.0.0", Family::V11),
            (110_400, "TensorRT 11.4.0", Family::V11),
            (10_300, "TensorRT-RTX 1.3.0", Family::Rtx1_3),
            (10_400, "TensorRT-RTX 1.4.0", Family::Rtx1_3),
            (10_500, "TensorRT-RTX 1.5.0", Family::Rtx1_5),
            (10_701, "TensorRT-RTX 1.7.1", Family::Rtx1_5),
        ] {
            assert_eq!(Version::from_native(native).unwrap().to_string(), name);
            assert_eq!(family(native, false), Some((expected, true)), "{name}");
        }
    }

    #[test]
    fn untested_versions_need_the_option() {
        for (native, expected) in [(101_700, Family::V10), (110_500, Family::V11), (10_800, Family::Rtx1_5)] {
            assert_eq!(family(native, false), None, "{native}");
            assert_eq!(family(native, true), Some((expected, false)), "{native}");
        }
    }

    #[test]
    fn unknown_versions_are_always_refused() {
        for native in
            [0, -1, 5, 7200, 8403, 8600, 8700, 9300, 10_000, 10_200, 20_000, 99_999, 120_000, i32::MIN, i32::MAX]
        {
            assert_eq!(family(native, true), None, "{native}");
        }
    }
}
