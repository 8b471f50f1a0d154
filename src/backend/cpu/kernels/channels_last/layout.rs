//! Channels from planes to side by side, and back: transposes of many small or large matrices.

use super::super::movement::Elem;
use crate::Result;
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::tensor::Tensor;
use crate::with_elem;

/// Side of the squares that are turned at a time: their lines stay in the first-level cache.
const SQUARE: usize = 16;

/// [N, C, spatial...] to [N, spatial..., C].
pub fn to_last(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    let (n, c) = (x.dims()[0], x.dims()[1]);
    let mut dims = vec![n];
    dims.extend(&x.dims()[2..]);
    let plane = dims[1..].iter().product();
    dims.push(c);
    turn(cx, x, dims, c, plane)
}

/// [N, spatial..., C] to [N, C, spatial...].
pub fn to_first(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    let (n, c) = (x.dims()[0], x.dims()[x.rank() - 1]);
    let mut dims = vec![n, c];
    dims.extend(&x.dims()[1..x.rank() - 1]);
    let plane = dims[2..].iter().product();
    turn(cx, x, dims, plane, c)
}

/// Matrices of `rows` rows and `columns` columns, turned.
fn turn(cx: &Cx, x: &Tensor, dims: Vec<usize>, rows: usize, columns: usize) -> Result<Tensor> {
    if rows == 1 || columns == 1 || x.is_empty() {
        return x.clone().reshaped(dims);
    }
    let mut y = Tensor::new(cx.pool, x.dtype(), dims)?;
    with_elem!(x.dtype(), T => {
        let (from, work) = (T::view(x)?, x.len() * 2);
        // A task turns some columns into rows.
        let at_once = ((1 << 14) / rows).clamp(1, columns);
        let tasks = columns.div_ceil(at_once);
        if columns.is_multiple_of(at_once) {
            cx.threads.pieces(T::view_mut(&mut y)?, at_once * rows, work, |i, out| {
                let (matrix, first) = (i / tasks, i % tasks * at_once);
                square(&from[matrix * rows * columns + first..], columns, rows, out);
            });
        } else {
            cx.threads.pieces(T::view_mut(&mut y)?, columns * rows, work, |i, out| {
                square(&from[i * rows * columns..], columns, rows, out);
            });
        }
    });
    Ok(y)
}

/// `out[column][row] = from[row * step + column]` for as many columns as `out` holds.
fn square<T: Elem>(from: &[T], step: usize, rows: usize, out: &mut [T]) {
    if rows <= SQUARE {
        for (column, out) in out.chunks_exact_mut(rows).enumerate() {
            for (row, o) in out.iter_mut().enumerate() {
                *o = from[row * step + column].clone();
            }
        }
        return;
    }
    for (i, out) in out.chunks_mut(SQUARE * rows).enumerate() {
        for first in (0..rows).step_by(SQUARE) {
            let some = SQUARE.min(rows - first);
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                for (row, o) in out[first..first + some].iter_mut().enumerate() {
                    *o = from[(first + row) * step + i * SQUARE + column].clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::memory::Pool;
    use crate::backend::cpu::threads::Threads;
    use crate::model::DataType;

    #[test]
    fn there_and_back() {
        let (pool, threads) = (Pool::new(1 << 30), Threads::inline());
        let cx = Cx { pool: &pool, threads: &threads, cancel: None, tap: None };
        for (n, c, h, w) in [(1, 3, 224, 224), (2, 17, 5, 7), (3, 40, 1, 1), (1, 1, 9, 9), (2, 64, 33, 31)] {
            let values: Vec<f32> = (0..n * c * h * w).map(|i| i as f32).collect();
            let x = Tensor::from_slice(&pool, DataType::Float32, vec![n, c, h, w], &values).unwrap();
            let last = to_last(&cx, &x).unwrap();
            assert_eq!(last.dims(), [n, h, w, c]);
            let at = last.slice::<f32>().unwrap();
            for i in [0, n * c * h * w / 2, n * c * h * w - 1] {
                let (channel, x, y, image) = (i % c, i / c % w, i / (c * w) % h, i / (c * w * h));
                assert_eq!(at[i], values[((image * c + channel) * h + y) * w + x]);
            }
            assert_eq!(to_first(&cx, &last).unwrap().slice::<f32>().unwrap(), values);
        }
    }
}
