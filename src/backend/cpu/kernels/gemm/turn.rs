//! Small matrices turned around: rows become columns.
#![allow(unsafe_code)] // vector instructions on checked memory

use super::super::lane::Lane;
use crate::model::DataType;

/// `to[column * to_apart + row] = from[row * from_apart + column]` for as many rows and columns as `size` says.
pub fn turn<F: Lane>(from: &[F], from_apart: usize, size: [usize; 2], to: &mut [F], to_apart: usize) {
    let [rows, columns] = size;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(from.len() >= (rows - 1) * from_apart + columns && to.len() >= (columns - 1) * to_apart + rows);
    let mut done = [0; 2];
    #[cfg(target_arch = "x86_64")]
    if F::DTYPE == DataType::Float32 && super::super::simd::has_avx2() {
        done = [rows / SIDE * SIDE, columns / SIDE * SIDE];
        // SAFETY: the elements are FP32, both sides are as large as was asserted, and the features have just been checked.
        unsafe { x86::squares(from.as_ptr().cast(), from_apart, done, to.as_mut_ptr().cast(), to_apart) };
    }
    one_by_one(from, from_apart, [0..done[0], done[1]..columns], to, to_apart);
    one_by_one(from, from_apart, [done[0]..rows, 0..columns], to, to_apart);
}

/// The same for some rows and columns, on any processor.
fn one_by_one<F: Copy>(
    from: &[F],
    from_apart: usize,
    part: [std::ops::Range<usize>; 2],
    to: &mut [F],
    to_apart: usize,
) {
    let [rows, columns] = part;
    for row in rows {
        for column in columns.clone() {
            to[column * to_apart + row] = from[row * from_apart + column];
        }
    }
}

/// Side of the squares that are turned in registers.
#[cfg(target_arch = "x86_64")]
const SIDE: usize = 8;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::SIDE;
    use std::arch::x86_64::*;

    /// Turns whole squares.
    ///
    /// # Safety
    /// Both sides hold these rows and columns, multiples of [`SIDE`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn squares(from: *const f32, from_apart: usize, size: [usize; 2], to: *mut f32, to_apart: usize) {
        for row in (0..size[0]).step_by(SIDE) {
            for column in (0..size[1]).step_by(SIDE) {
                // SAFETY: the square lies in both.
                unsafe {
                    let (from, to) = (from.add(row * from_apart + column), to.add(column * to_apart + row));
                    square(from, from_apart, to, to_apart);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn square(from: *const f32, from_apart: usize, to: *mut f32, to_apart: usize) {
        // Halves of rows four apart share a register, so that no later step crosses its halves.
        // SAFETY: eight rows of eight elements.
        let pair = |row: usize, column: usize| unsafe {
            let low = _mm_loadu_ps(from.add(row * from_apart + column));
            let high = _mm_loadu_ps(from.add((row + 4) * from_apart + column));
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
        };
        for column in [0, 4] {
            let [a, b, c, d] = [pair(0, column), pair(1, column), pair(2, column), pair(3, column)];
            let [ab, cd] = [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)];
            let [ab2, cd2] = [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)];
            let turned = [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xee>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ab2, cd2),
                _mm256_shuffle_ps::<0xee>(ab2, cd2),
            ];
            for (i, row) in turned.into_iter().enumerate() {
                // SAFETY: eight rows of eight elements.
                unsafe { _mm256_storeu_ps(to.add((column + i) * to_apart), row) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like_one_by_one<F: Lane + std::fmt::Debug>(number: fn(usize) -> F) {
        for (rows, columns) in [(1, 1), (8, 8), (16, 24), (7, 9), (32, 64), (31, 5), (5, 31), (9, 8)] {
            let (from_apart, to_apart) = (columns + 3, rows + 2);
            let from: Vec<F> = (0..rows * from_apart).map(number).collect();
            let (mut to, mut want) = (vec![number(0); columns * to_apart], vec![number(0); columns * to_apart]);
            turn(&from, from_apart, [rows, columns], &mut to, to_apart);
            one_by_one(&from, from_apart, [0..rows, 0..columns], &mut want, to_apart);
            assert_eq!(to, want, "{rows} rows of {columns}");
        }
    }

    #[test]
    fn squares_in_registers_are_turned_as_single_elements() {
        like_one_by_one(|i| i as f32 + 1.0);
        like_one_by_one(|i| i as f64 + 1.0);
    }
}
