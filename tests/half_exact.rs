//! Every half, and the floats around every rounding boundary, convert as IEEE 754 says: round to nearest, ties to even.
//!
//! The expectation is built from the definition of the format with integers and `f64`, not from another converter.

use mezzo::model::{DataType, OutOfRange, Storage, Tensor};

/// The value of a half by its definition (IEEE 754-2019, 3.4): sign, 5 bits of exponent, 10 of fraction.
fn value_of(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}

fn to_half(values: Vec<f32>, rule: OutOfRange) -> Vec<u16> {
    let n = values.len() as i64;
    let wide = Tensor::new(DataType::Float32, vec![n], Storage::from_vec(values)).unwrap();
    let half = wide.converted(DataType::Float16, rule).unwrap();
    assert!(half.is_pending());
    half.bytes().unwrap().as_chunks::<2>().0.iter().map(|c| u16::from_le_bytes(*c)).collect()
}

#[test]
fn every_half_widens_exactly_and_comes_back() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let half = Tensor::from_vec(DataType::Float16, vec![65536], all);
    let wide = half.converted(DataType::Float32, OutOfRange::Infinity).unwrap();
    let floats: Vec<f32> = wide.bytes().unwrap().as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
    for (bits, &f) in floats.iter().enumerate() {
        let want = value_of(bits as u16);
        assert!(f64::from(f) == want || f.is_nan() && want.is_nan(), "half {bits:#06x}: {f} is not {want}");
        assert_eq!(f.is_sign_negative(), bits & 0x8000 != 0, "sign of half {bits:#06x}");
    }
    for (bits, back) in to_half(floats, OutOfRange::Infinity).into_iter().enumerate() {
        if value_of(bits as u16).is_nan() {
            assert!(value_of(back).is_nan(), "NaN {bits:#06x} became {back:#06x}");
        } else {
            assert_eq!(usize::from(back), bits);
        }
    }
}

#[test]
fn floats_around_every_boundary_round_to_nearest_even() {
    let (mut inputs, mut want) = (Vec::new(), Vec::new());
    // 0x7bff is the largest finite half; its upper neighbour would be 65536, and from the middle on (65520, whose even
    // neighbour it is) the result is an infinity.
    for low in 0..=0x7bffu16 {
        let high = low + 1;
        let high_value = if high == 0x7c00 { 65536.0 } else { value_of(high) };
        let middle = ((value_of(low) + high_value) / 2.0) as f32;
        let even = if low & 1 == 0 { low } else { high };
        for (x, bits) in [(middle.next_down(), low), (middle, even), (middle.next_up(), high)] {
            inputs.extend([x, -x]);
            want.extend([bits, bits | 0x8000]);
        }
    }
    inputs.extend([f32::MAX, f32::MIN, f32::INFINITY, f32::MIN_POSITIVE, -0.0, 1e-45]);
    want.extend([0x7c00, 0xfc00, 0x7c00, 0, 0x8000, 0]);
    for (i, (got, want)) in to_half(inputs.clone(), OutOfRange::Infinity).into_iter().zip(want).enumerate() {
        assert_eq!(got, want, "{:e} became {got:#06x}, not {want:#06x}", inputs[i]);
    }
}

#[test]
fn clamping_touches_finite_values_only() {
    let got = to_half(vec![1e9, -1e9, 65519.0, 65520.0, f32::INFINITY, f32::NEG_INFINITY, 1.5], OutOfRange::Clamp);
    assert_eq!(got, [0x7bff, 0xfbff, 0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x3e00]);
}

#[test]
fn doubles_round_once() {
    // Through float32 this double would round twice: first to the middle of two halves, then to the even one.
    let x = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    let wide = Tensor::from_vec(DataType::Float64, vec![1], vec![x]);
    let half = wide.converted(DataType::Float16, OutOfRange::Infinity).unwrap();
    assert_eq!(*half.bytes().unwrap(), 0x3c01u16.to_le_bytes());
}

#[test]
fn chunks_join_to_the_whole() {
    let n = (1 << 18) * 2 + 17;
    let values: Vec<f32> = (0..n).map(|i| i as f32 * 0.01 - 1000.0).collect();
    let expect: Vec<u16> = values.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
    assert_eq!(to_half(values, OutOfRange::Infinity), expect);
}
