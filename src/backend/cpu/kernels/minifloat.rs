//! Floats of eight bits and fewer: every value of a format from a table, rounding by searching it.

use crate::model::DataType;
use std::sync::OnceLock;

/// What becomes of a value that a format does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    /// A value beyond the range becomes the last one in it, not infinity or NaN.
    pub saturate: bool,
    /// To which power of two a value goes; formats with a mantissa round to nearest even.
    pub powers: Powers,
}

/// Rounding to powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Powers {
    /// To the next larger one.
    Up,
    /// To the next smaller one.
    Down,
    /// To the nearest; the middle goes up.
    Nearest,
}

impl Rounding {
    /// What operators without attributes for it do.
    pub const PLAIN: Rounding = Rounding { saturate: true, powers: Powers::Up };
}

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
}

/// Conversion between numbers and one format.
pub struct Table {
    format: Format,
    values: Vec<f32>,
    /// Non-negative finite values, ascending; a value's place is its code.
    ascending: Vec<f32>,
}

/// The table of a type; `None` for types that are no small floats.
pub fn table(dtype: DataType) -> Option<&'static Table> {
    static TABLES: [OnceLock<Option<Table>>; 32] = [const { OnceLock::new() }; 32];
    let place = usize::try_from(dtype.to_onnx()).ok().and_then(|i| TABLES.get(i))?;
    place.get_or_init(|| Table::new(dtype)).as_ref()
}

impl Table {
    fn new(dtype: DataType) -> Option<Table> {
        let format = format(dtype)?;
        let values: Vec<f32> = (0..1u32 << format.bits).map(|c| format.decode(c as u8)).collect();
        // In every format the codes of the non-negative numbers count up with their values, from 0.
        let ascending = values.iter().copied().take_while(|v| v.is_finite() && v.is_sign_positive()).collect();
        Some(Table { format, values, ascending })
    }

    /// The value of a code.
    pub fn decode(&self, code: u8) -> f32 {
        self.values.get(usize::from(code)).copied().unwrap_or(f32::NAN)
    }

    /// The code of the nearest value, ties to the even one.
    pub fn encode(&self, x: f64, rounding: Rounding) -> u8 {
        match self.format.kind {
            Kind::Exponent => self.encode_power(x, rounding),
            _ => self.encode_signed(x, rounding.saturate),
        }
    }

    fn encode_signed(&self, x: f64, saturate: bool) -> u8 {
        let f = self.format;
        let sign = if x.is_sign_negative() { 1u8 << (f.bits - 1) } else { 0 };
        let last = (self.ascending.len() - 1) as u8;
        if x.is_nan() {
            return match f.kind {
                Kind::Ieee => 0x7E | sign,
                Kind::Finite => 0x7F | sign,
                Kind::Unsigned0 => 0x80,
                // No NaN: minus zero stands for it, as in the number types that Python has for these formats.
                _ => 1 << (f.bits - 1),
            };
        }
        let magnitude = x.abs();
        let code = match self.nearest(magnitude) {
            Some(code) => code,
            None if saturate => last,
            None => match f.kind {
                Kind::Ieee => 0x7C,
                Kind::Finite => 0x7F,
                Kind::Unsigned0 => return 0x80,
                _ => last,
            },
        };
        // A format without negative zero has only the other.
        if code == 0 && f.kind == Kind::Unsigned0 { 0 } else { code | sign }
    }

    /// The code nearest to a number that is not negative; `None` if that is beyond the last.
    fn nearest(&self, magnitude: f64) -> Option<u8> {
        let at = |i: usize| self.ascending.get(i).copied().map(f64::from);
        let above = self.ascending.partition_point(|&v| f64::from(v) < magnitude);
        let Some(below) = above.checked_sub(1) else { return Some(0) };
        let low = at(below)?;
        // The step beyond the last value is as wide as the one before it.
        let high = match at(above) {
            Some(high) => high,
            None => low + (low - at(below.checked_sub(1)?)?),
        };
        let code = match (magnitude - low).total_cmp(&(high - magnitude)) {
            std::cmp::Ordering::Less => below,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal => below + (below & 1),
        };
        (code < self.ascending.len()).then_some(code as u8)
    }

    fn encode_power(&self, x: f64, rounding: Rounding) -> u8 {
        const NAN: u8 = 0xFF;
        let last = (self.ascending.len() - 1) as u8;
        // A sign has no place; as the specification leaves it open, the magnitude is kept.
        let x = x.abs();
        if x.is_nan() {
            return NAN;
        }
        let above = self.ascending.partition_point(|&v| f64::from(v) < x);
        let Some(&high) = self.ascending.get(above) else { return if rounding.saturate { last } else { NAN } };
        let Some(&low) = above.checked_sub(1).and_then(|i| self.ascending.get(i)) else {
            return if f64::from(high) == x || rounding.saturate { 0 } else { NAN };
        };
        let (low, high) = (f64::from(low), f64::from(high));
        let up = x == high
            || match rounding.powers {
                Powers::Up => true,
                Powers::Down => false,
                Powers::Nearest => x - low >= high - x,
            };
        if up { above as u8 } else { (above - 1) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Rounding = Rounding { saturate: false, powers: Powers::Up };

    fn all() -> impl Iterator<Item = DataType> {
        crate::model::dtype::ALL.into_iter().filter(|d| table(*d).is_some())
    }

    #[test]
    fn known_values() {
        let t = |d| table(d).unwrap();
        let largest = |d| *t(d).ascending.last().unwrap();
        assert_eq!(all().count(), 8);
        assert_eq!(largest(DataType::Float8E4M3Fn), 448.0);
        assert_eq!(t(DataType::Float8E5M2).decode(0x7B), 57344.0);
        assert_eq!(t(DataType::Float8E5M2).decode(1), 2f32.powi(-16));
        assert_eq!(largest(DataType::Float8E4M3Fnuz), 240.0);
        assert_eq!(largest(DataType::Float8E5M2Fnuz), 57344.0);
        assert_eq!(largest(DataType::Float4E2M1), 6.0);
        assert_eq!(largest(DataType::Float6E2M3), 7.5);
        assert_eq!(largest(DataType::Float6E3M2), 28.0);
        assert_eq!(t(DataType::Float8E8M0).decode(127), 1.0);
        let e4 = t(DataType::Float8E4M3Fn);
        assert_eq!(e4.encode(1e6, Rounding::PLAIN), 0x7E);
        assert_eq!(e4.encode(1e6, FREE), 0x7F);
        assert_eq!(e4.encode(464.0, FREE), 0x7E, "the tie beyond the largest goes to the even one below");
        assert_eq!(e4.encode(464.1, FREE), 0x7F);
        assert_eq!(e4.encode(-0.0, FREE), 0x80);
        assert_eq!(t(DataType::Float8E4M3Fnuz).encode(-0.0, FREE), 0);
        assert_eq!(t(DataType::Float8E5M2).encode(f64::INFINITY, FREE), 0x7C);
        assert_eq!(t(DataType::Float8E5M2).encode(f64::NEG_INFINITY, Rounding::PLAIN), 0xFB);
    }

    #[test]
    fn powers_of_two_round_as_told() {
        let t = table(DataType::Float8E8M0).unwrap();
        let with = |x, powers| t.encode(x, Rounding { saturate: true, powers });
        for (x, up, down, nearest) in
            [(1.0, 127, 127, 127), (1.25, 128, 127, 127), (1.5, 128, 127, 128), (0.0, 0, 0, 0)]
        {
            assert_eq!(
                (with(x, Powers::Up), with(x, Powers::Down), with(x, Powers::Nearest)),
                (up, down, nearest),
                "{x}"
            );
        }
        assert_eq!(with(1e300, Powers::Nearest), 254);
        assert_eq!((t.encode(1e300, FREE), t.encode(0.0, FREE), t.encode(f64::NAN, Rounding::PLAIN)), (255, 255, 255));
    }

    /// Every value is its own code, in both modes.
    #[test]
    fn encoding_inverts_decoding() {
        for dtype in all() {
            let t = table(dtype).unwrap();
            for code in 0..t.values.len() {
                let v = t.decode(code as u8);
                if v.is_nan() {
                    assert!(t.decode(t.encode(v.into(), FREE)).is_nan(), "{dtype} {code}");
                    continue;
                }
                assert_eq!(t.encode(v.into(), FREE), code as u8, "{dtype} {code} {v}");
                if v.is_finite() {
                    assert_eq!(t.encode(v.into(), Rounding::PLAIN), code as u8, "{dtype} {code} {v}");
                }
            }
        }
    }

    /// Between neighbours: the middle goes to the even code, what is beside it to the nearer one; signs do not matter.
    #[test]
    fn rounding_is_to_nearest_even() {
        for dtype in all().filter(|d| *d != DataType::Float8E8M0) {
            let t = table(dtype).unwrap();
            for (i, w) in t.ascending.windows(2).enumerate() {
                let (low, high) = (f64::from(w[0]), f64::from(w[1]));
                let middle = (low + high) / 2.0;
                let even = if i % 2 == 0 { i } else { i + 1 };
                for (x, want) in [(middle, even), (middle.next_up(), i + 1), (middle.next_down(), i)] {
                    assert_eq!(t.encode(x, FREE), want as u8, "{dtype} {x}");
                    assert_eq!(
                        f64::from(t.decode(t.encode(-x, FREE))),
                        -f64::from(t.decode(want as u8)),
                        "{dtype} -{x}"
                    );
                }
            }
        }
    }
}
