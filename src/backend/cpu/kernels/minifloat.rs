//! Floats of eight bits and fewer: every value of a format from a table, rounding by searching it.

use crate::model::DataType;

/// How a format is laid out.
#[derive(Debug, Clone, Copy)]
struct Format {
    bits: u32,
    exponent: u32,
    mantissa: u32,
    bias: i32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Infinities and NaN as IEEE 754 has them.
    Ieee,
    /// No infinity; all ones is NaN.
    Finite,
    /// No infinity, no negative zero; its pattern is the only NaN.
    Unsigned0,
    /// Numbers only.
    NumbersOnly,
    /// Powers of two without a sign; all ones is NaN.
    Exponent,
}

fn format(dtype: DataType) -> Option<Format> {
    let f = |bits, exponent, mantissa, bias, kind| Some(Format { bits, exponent, mantissa, bias, kind });
    match dtype {
        DataType::Float8E4M3Fn => f(8, 4, 3, 7, Kind::Finite),
        DataType::Float8E4M3Fnuz => f(8, 4, 3, 8, Kind::Unsigned0),
        DataType::Float8E5M2 => f(8, 5, 2, 15, Kind::Ieee),
        DataType::Float8E5M2Fnuz => f(8, 5, 2, 16, Kind::Unsigned0),
        DataType::Float6E2M3 => f(6, 2, 3, 1, Kind::NumbersOnly),
        DataType::Float6E3M2 => f(6, 3, 2, 3, Kind::NumbersOnly),
        DataType::Float4E2M1 => f(4, 2, 1, 1, Kind::NumbersOnly),
        DataType::Float8E8M0 => f(8, 8, 0, 127, Kind::Exponent),
        _ => None,
    }
}

/// True for the types of this file.
pub fn is_minifloat(dtype: DataType) -> bool {
    format(dtype).is_some()
}

impl Format {
    fn decode(self, code: u8) -> f32 {
        let code = u32::from(code);
        if self.kind == Kind::Exponent {
            return if code == 255 { f32::NAN } else { (f64::from(code as i32 - self.bias)).exp2() as f32 };
        }
        let sign_bit = 1 << (self.bits - 1);
        let sign = if code & sign_bit != 0 { -1.0 } else { 1.0 };
        let body = code & (sign_bit - 1);
        let (exponent, mantissa) = (body >> self.mantissa, body & ((1 << self.mantissa) - 1));
        let top = (1 << self.exponent) - 1;
        match self.kind {
            Kind::Ieee if exponent == top && mantissa == 0 => return sign * f32::INFINITY,
            Kind::Ieee if exponent == top => return f32::NAN,
            Kind::Finite if body == sign_bit - 1 => return f32::NAN,
            Kind::Unsigned0 if code == sign_bit => return f32::NAN,
            _ => {}
        }
        let scale = f64::from(self.mantissa as i32).exp2();
        let value = if exponent == 0 {
            f64::from(mantissa) / scale * f64::from(1 - self.bias).exp2()
        } else {
            (1.0 + f64::from(mantissa) / scale) * f64::from(exponent as i32 - self.bias).exp2()
        };
        (f64::from(sign) * value) as f32
    }

    fn nan(self) -> Option<u8> {
        match self.kind {
            Kind::Ieee | Kind::Finite => Some(0x7F),
            Kind::Unsigned0 => Some(0x80),
            Kind::NumbersOnly => None,
            Kind::Exponent => Some(0xFF),
        }
    }
}

/// Conversion between FP32 and one format.
pub struct Table {
    format: Format,
    values: Vec<f32>,
    /// Non-negative finite values, ascending, with their codes.
    positive: Vec<(f32, u8)>,
}

impl Table {
    /// The table of a type; `None` for other types.
    pub fn new(dtype: DataType) -> Option<Table> {
        let format = format(dtype)?;
        let values: Vec<f32> = (0..1u32 << format.bits).map(|c| format.decode(c as u8)).collect();
        let mut positive: Vec<(f32, u8)> = values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.is_finite() && v.is_sign_positive())
            .map(|(c, v)| (*v, c as u8))
            .collect();
        positive.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(Table { format, values, positive })
    }

    /// The value of a code.
    pub fn decode(&self, code: u8) -> f32 {
        self.values.get(usize::from(code)).copied().unwrap_or(f32::NAN)
    }

    /// The nearest value's code, ties to the even one; beyond the range the largest value if `saturate`, else infinity or
    /// NaN, whichever the format has.
    pub fn encode(&self, x: f32, saturate: bool) -> u8 {
        let f = self.format;
        let sign_bit = 1u8 << (f.bits - 1);
        let Some(&(largest, last)) = self.positive.last() else { return 0 };
        if x.is_nan() {
            let sign = if x.is_sign_negative() && matches!(f.kind, Kind::Ieee | Kind::Finite) { sign_bit } else { 0 };
            // A format without NaN takes the largest value for it.
            return f.nan().unwrap_or(last) | sign;
        }
        let sign = if x.is_sign_negative() && f.kind != Kind::Exponent { sign_bit } else { 0 };
        let magnitude = x.abs();
        if f.kind == Kind::Exponent && (x <= 0.0 || magnitude < self.positive[0].0) {
            return self.positive[0].1;
        }
        let beyond = || match (saturate, f.kind) {
            (true, _) | (_, Kind::NumbersOnly) => last | sign,
            (false, Kind::Ieee) => 0x7C | sign,
            (false, Kind::Finite) => 0x7F | sign,
            (false, _) => f.nan().unwrap_or(last),
        };
        if magnitude.is_infinite() {
            return if f.kind == Kind::Ieee && !saturate { 0x7C | sign } else { beyond() };
        }
        let above = self.positive.partition_point(|(v, _)| *v < magnitude);
        let code = if above == self.positive.len() {
            // The step beyond the last value is as wide as the one before it.
            let before = self.positive[above - 2].0;
            let step = if f.kind == Kind::Exponent { largest } else { largest - before };
            let tie = f64::from(largest) + f64::from(step) / 2.0;
            let even = last & 1 == 0;
            if f64::from(magnitude) > tie || (f64::from(magnitude) == tie && !even) {
                return beyond();
            }
            last
        } else if above == 0 {
            self.positive[0].1
        } else {
            let ((low, a), (high, b)) = (self.positive[above - 1], self.positive[above]);
            let (down, up) = (f64::from(magnitude) - f64::from(low), f64::from(high) - f64::from(magnitude));
            match down.total_cmp(&up) {
                std::cmp::Ordering::Less => a,
                std::cmp::Ordering::Greater => b,
                std::cmp::Ordering::Equal if a & 1 == 0 => a,
                std::cmp::Ordering::Equal => b,
            }
        };
        // A format without negative zero has only the other.
        if code == 0 && f.kind == Kind::Unsigned0 { 0 } else { code | sign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let t = |d| Table::new(d).unwrap();
        assert_eq!(t(DataType::Float8E4M3Fn).decode(0x7E), 448.0);
        assert_eq!(t(DataType::Float8E5M2).decode(0x7B), 57344.0);
        assert_eq!(t(DataType::Float8E4M3Fnuz).decode(0x7F), 240.0);
        assert_eq!(t(DataType::Float8E5M2Fnuz).decode(0x7F), 57344.0);
        assert_eq!(t(DataType::Float4E2M1).decode(7), 6.0);
        assert_eq!(t(DataType::Float8E8M0).decode(127), 1.0);
        let e4 = t(DataType::Float8E4M3Fn);
        assert_eq!(e4.encode(1e6, true), 0x7E);
        assert_eq!(e4.encode(1e6, false), 0x7F);
        assert_eq!(e4.encode(-0.0, true), 0x80);
        assert_eq!(t(DataType::Float8E4M3Fnuz).encode(-0.0, true), 0);
        assert_eq!(t(DataType::Float8E5M2).encode(f32::INFINITY, false), 0x7C);
    }

    /// Every value is its own code; halfway points go to the even neighbour.
    #[test]
    fn encoding_inverts_decoding() {
        for dtype in crate::model::dtype::ALL.into_iter().filter(|d| is_minifloat(*d)) {
            let t = Table::new(dtype).unwrap();
            for code in 0..t.values.len() {
                let v = t.decode(code as u8);
                if v.is_finite() {
                    assert_eq!(t.encode(v, true), code as u8, "{dtype} {code} {v}");
                }
            }
            for w in t.positive.windows(2).filter(|_| dtype != DataType::Float8E8M0) {
                let middle = (w[0].0 + w[1].0) / 2.0;
                let even = if w[0].1 & 1 == 0 { w[0].1 } else { w[1].1 };
                assert_eq!(t.encode(middle, true), even, "{dtype} {middle}");
            }
        }
    }
}
