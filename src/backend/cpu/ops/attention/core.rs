//! The two products of attention, head by head, on heads as they lie in memory.

use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::gemm::{self, Operand, Product};
use crate::backend::cpu::kernels::lane::{FloatLane, Lane};
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::tensor::Tensor;
use crate::{Result, bail};

/// Scores of a thread that are held at a time where the caller does not need all: from the first product to the second
/// they stay in the second-level cache, or near it.
const HELD: usize = 1 << 18;
/// Rows whose scores are held together at least: for each such unit the keys are packed again.
const LEAST_ROWS: usize = 64;

/// A stack of heads: how many, how large, and where each row begins.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub batch: usize,
    pub heads: usize,
    /// Tokens.
    pub rows: usize,
    /// Elements of one row of one head.
    pub width: usize,
    by_head: usize,
    by_row: usize,
}

impl Heads {
    /// Those of a tensor [batch, heads, rows, width].
    pub fn apart(dims: [usize; 4]) -> Heads {
        let [batch, heads, rows, width] = dims;
        Heads { batch, heads, rows, width, by_head: rows * width, by_row: width }
    }

    /// Those of a tensor [batch, rows, heads x width].
    pub fn side_by_side(dims: [usize; 4]) -> Heads {
        let [batch, heads, rows, width] = dims;
        Heads { batch, heads, rows, width, by_head: width, by_row: heads * width }
    }

    /// The heads of a tensor of rank 3, which `heads` says the number for, or 4.
    pub fn of(t: &Tensor, heads: Option<usize>, what: &str) -> Result<Heads> {
        match (t.dims(), heads) {
            (&[b, h, n, w], given) if given.is_none_or(|g| g == h) => Ok(Heads::apart([b, h, n, w])),
            (&[b, n, hidden], Some(h)) if h > 0 && hidden % h == 0 => Ok(Heads::side_by_side([b, h, n, hidden / h])),
            (&[_, _, _], None) => {
                bail!(InvalidModel, "its attributes must say the number of heads of {what}, which has rank 3")
            }
            _ => bail!(ShapeMismatch, "{what} of shape {:?} does not go with {heads:?} heads", t.dims()),
        }
    }

    /// Single tokens of heads that share a key, seen as the rows of one head: the key is then read once for all.
    pub fn grouped(self, group: usize) -> Heads {
        let (heads, by_head) = (self.heads / group.max(1), self.by_head * group);
        Heads { heads, rows: group, by_head, by_row: self.by_head, ..self }
    }

    /// Where a row of a head begins.
    fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.heads * self.rows * self.width + head * self.by_head + row * self.by_row
    }
}

/// Rows of one head of one sample whose scores are computed together.
#[derive(Clone, Copy)]
struct Unit {
    batch: usize,
    head: usize,
    row: usize,
    rows: usize,
}

/// What attention reads.
pub struct Operands<'a, T> {
    pub q: (&'a [T], Heads),
    pub k: (&'a [T], Heads),
    pub v: (&'a [T], Heads),
    pub scale: f64,
}

impl<T> Operands<'_, T> {
    /// An error unless the shapes go together.
    pub fn check(&self) -> Result<()> {
        let (q, k, v) = (&self.q.1, &self.k.1, &self.v.1);
        let grouped = k.heads > 0 && q.heads % k.heads == 0 || q.heads == 0;
        if q.batch != k.batch || k.batch != v.batch || k.heads != v.heads || k.rows != v.rows || q.width != k.width {
            bail!(ShapeMismatch, "query {q:?}, key {k:?} and value {v:?} do not go together");
        }
        if !grouped {
            bail!(ShapeMismatch, "{} heads of the query do not share {} heads of the key evenly", q.heads, k.heads);
        }
        Ok(())
    }

    fn units(&self, most_rows: usize) -> Vec<Unit> {
        let q = &self.q.1;
        let step = most_rows.clamp(1, q.rows.max(1));
        let mut units = Vec::new();
        for batch in 0..q.batch {
            for head in 0..q.heads {
                units.extend((0..q.rows).step_by(step).map(|row| Unit {
                    batch,
                    head,
                    row,
                    rows: step.min(q.rows - row),
                }));
            }
        }
        units
    }

    /// The key's head that a head of the query looks at.
    fn shared(&self, head: usize) -> usize {
        head / (self.q.1.heads / self.k.1.heads.max(1)).max(1)
    }
}

/// The elements from a place on: none where a head without rows would begin beyond the end.
fn from<T>(data: &[T], at: usize) -> &[T] {
    data.get(at..).unwrap_or_default()
}

/// Scaled products of queries and keys, one unit after the other; rows are `stride` apart.
fn scores<T: FloatLane>(cx: &Cx, o: &Operands<T>, units: &[Unit], stride: usize, out: &mut [T::C]) -> Result<()> {
    let (q, k) = (&o.q, &o.k);
    let scale = T::C::of(o.scale);
    let epilogue = |_: usize, row: &mut [T::C]| row.iter_mut().for_each(|v| *v *= scale);
    let sources: Vec<_> = units
        .iter()
        .map(|u| {
            let queries = Operand::by_lanes(from(q.0, q.1.at(u.batch, u.head, u.row)), q.1.by_row);
            let keys = Operand::by_lanes(from(k.0, k.1.at(u.batch, o.shared(u.head), 0)), k.1.by_row);
            (queries, keys)
        })
        .collect();
    let mut offset = 0;
    let products: Vec<Product<T::C>> = units
        .iter()
        .zip(&sources)
        .map(|(u, &(a, b))| {
            let (m, n, depth) = (u.rows, k.1.rows, q.1.width);
            let product = Product { m, n, k: depth, a, b, offset, row_stride: stride, epilogue: Some(&epilogue) };
            offset += u.rows * stride;
            product
        })
        .collect();
    gemm::run(cx, &products, out)
}

/// Sums of values weighted with `weights` (rows `stride` apart), into `y`.
fn weigh<P: FloatLane, T: FloatLane<C = P::C>>(
    cx: &Cx,
    o: &Operands<T>,
    units: &[Unit],
    (weights, stride): (&[P], usize),
    y: (&mut [T], &Heads),
) -> Result<()> {
    let v = &o.v;
    let mut offset = 0;
    let sources: Vec<_> = units
        .iter()
        .map(|u| {
            let rows = Operand::by_lanes(from(weights, offset), stride);
            offset += u.rows * stride;
            let values = Operand::by_steps(from(v.0, v.1.at(u.batch, o.shared(u.head), 0)), v.1.by_row);
            (rows, values)
        })
        .collect();
    let products: Vec<Product<T::C>> = units
        .iter()
        .zip(&sources)
        .map(|(u, &(a, b))| Product {
            m: u.rows,
            n: v.1.width,
            k: v.1.rows,
            a,
            b,
            offset: y.1.at(u.batch, u.head, u.row),
            row_stride: y.1.by_row,
            epilogue: None,
        })
        .collect();
    gemm::run(cx, &products, y.0)
}

/// Turns the scores of a query into weights: sample, head, row; scores; where to put what the caller wants to see.
pub type RowStep<'a, F> = &'a (dyn Fn([usize; 3], &mut [F], Option<&mut [F]>) + Sync);

/// Attention whose rows of scores pass through `step`; `seen` gets what the step shows, for all rows.
pub fn attend<T: FloatLane>(
    cx: &Cx,
    o: &Operands<T>,
    step: RowStep<T::C>,
    (y, heads): (&mut [T], &Heads),
    mut seen: Option<&mut [T]>,
) -> Result<()> {
    // There may be any number of rows that nothing comes of.
    if y.is_empty() && seen.as_ref().is_none_or(|s| s.is_empty()) {
        return Ok(());
    }
    let n = o.k.1.rows;
    // What a step shows stands behind the row's scores.
    let stride = if seen.is_some() { 2 * n } else { n };
    let units = o.units((HELD / stride.max(1)).max(LEAST_ROWS));
    let largest = units.iter().map(|u| u.rows * stride).max().unwrap_or(0);
    for group in units.chunks((HELD * cx.threads.count() / largest.max(1)).max(1)) {
        cx.check_cancelled()?;
        let rows: usize = group.iter().map(|u| u.rows).sum();
        let mut held = Tensor::new(cx.pool, <T::C as Lane>::DTYPE, vec![rows, stride])?;
        let held = held.slice_mut::<T::C>()?;
        if n > 0 {
            scores(cx, o, group, stride, held)?;
            let places: Vec<[usize; 3]> =
                group.iter().flat_map(|u| (u.row..u.row + u.rows).map(|r| [u.batch, u.head, r])).collect();
            cx.threads.pieces(held, stride, rows * n * 16, |i, piece| {
                let (row, shown) = piece.split_at_mut(n);
                step(places[i], row, (!shown.is_empty()).then_some(shown));
            });
            if let Some(seen) = seen.as_deref_mut() {
                let q = &o.q.1;
                for (&[b, h, r], row) in places.iter().zip(held.chunks_exact(stride)) {
                    let at = ((b * q.heads + h) * q.rows + r) * n;
                    T::narrow(&row[n..], &mut seen[at..at + n]);
                }
            }
        }
        weigh(cx, o, group, (&*held, stride), (&mut *y, heads))?;
    }
    Ok(())
}

/// All scores, [batch, heads, queries, keys].
pub fn all_scores<T: FloatLane>(cx: &Cx, o: &Operands<T>) -> Result<Tensor> {
    let dims = vec![o.q.1.batch, o.q.1.heads, o.q.1.rows, o.k.1.rows];
    let mut all = Tensor::new(cx.pool, <T::C as Lane>::DTYPE, dims)?;
    if !all.is_empty() {
        scores(cx, o, &o.units(usize::MAX), o.k.1.rows, all.slice_mut()?)?;
    }
    Ok(all)
}

/// The weighted sums for weights of that shape.
pub fn all_weighed<P: FloatLane, T: FloatLane<C = P::C>>(
    cx: &Cx,
    o: &Operands<T>,
    weights: &[P],
    y: (&mut [T], &Heads),
) -> Result<()> {
    if y.0.is_empty() {
        return Ok(());
    }
    weigh(cx, o, &o.units(usize::MAX), (weights, o.k.1.rows), y)
}
