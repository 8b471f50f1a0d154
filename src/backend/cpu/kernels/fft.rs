//! Discrete Fourier transforms of any length, in FP64: powers of two by halving, other lengths as a convolution with a
//! chirp (Bluestein), which powers of two compute.

use std::f64::consts::TAU;

/// A complex number: real and imaginary part.
pub type Complex = [f64; 2];

fn mul([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

fn conjugate([a, b]: Complex) -> Complex {
    [a, -b]
}

/// `e^(-2 pi i k / n)`.
fn root(k: usize, n: usize) -> Complex {
    let (sin, cos) = (TAU * (k as f64 / n as f64)).sin_cos();
    [cos, -sin]
}

/// The transform of one length.
pub struct Fft {
    n: usize,
    form: Form,
}

enum Form {
    /// The roots of one half turn.
    Halving(Vec<Complex>),
    Chirp {
        /// `e^(-pi i k^2 / n)`.
        chirp: Vec<Complex>,
        /// The transform of the chirp's inverse, laid out for a cyclic convolution.
        kernel: Vec<Complex>,
        inner: Box<Fft>,
    },
}

impl Fft {
    /// The transform of `n` values; `n` is not 0.
    pub fn new(n: usize) -> Fft {
        if n.is_power_of_two() {
            return Fft { n, form: Form::Halving((0..n / 2).map(|k| root(k, n)).collect()) };
        }
        let inner = Fft::new((2 * n).next_power_of_two());
        // The squares are taken modulo the period, so that angles stay small and exact.
        let period = 2 * n as u128;
        let chirp: Vec<Complex> = (0..n as u128).map(|k| root((k * k % period) as usize, 2 * n)).collect();
        let mut kernel = vec![[0.0; 2]; inner.n];
        for (k, &c) in chirp.iter().enumerate() {
            kernel[k] = conjugate(c);
            kernel[(inner.n - k) % inner.n] = conjugate(c);
        }
        inner.forward(&mut kernel);
        Fft { n, form: Form::Chirp { chirp, kernel, inner: Box::new(inner) } }
    }

    /// `X[k] = sum over t of x[t] e^(-2 pi i k t / n)`, in place; `data` has `n` values.
    pub fn forward(&self, data: &mut [Complex]) {
        match &self.form {
            Form::Halving(roots) => halving(data, roots),
            Form::Chirp { chirp, kernel, inner } => {
                let mut wide = vec![[0.0; 2]; inner.n];
                wide.iter_mut().zip(data.iter().zip(chirp)).for_each(|(w, (&x, &c))| *w = mul(x, c));
                inner.forward(&mut wide);
                wide.iter_mut().zip(kernel).for_each(|(w, &k)| *w = mul(*w, k));
                inner.inverse(&mut wide);
                data.iter_mut().zip(wide.iter().zip(chirp)).for_each(|(x, (&w, &c))| *x = mul(w, c));
            }
        }
    }

    /// The inverse of [`Fft::forward`], divided by `n`.
    pub fn inverse(&self, data: &mut [Complex]) {
        data.iter_mut().for_each(|v| *v = conjugate(*v));
        self.forward(data);
        let n = self.n as f64;
        data.iter_mut().for_each(|v| *v = [v[0] / n, -v[1] / n]);
    }
}

fn halving(data: &mut [Complex], roots: &[Complex]) {
    let n = data.len();
    // Values go to the place with their bits reversed.
    let mut j = 0usize;
    for i in 1..n {
        let mut bit = n >> 1;
        while j & bit != 0 {
            j ^= bit;
            bit >>= 1;
        }
        j |= bit;
        if i < j {
            data.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        let step = n / (2 * half);
        for block in data.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), &w) in low.iter_mut().zip(high).zip(roots.iter().step_by(step)) {
                let t = mul(*b, w);
                (*a, *b) = ([a[0] + t[0], a[1] + t[1]], [a[0] - t[0], a[1] - t[1]]);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_the_sums_they_stand_for() {
        for n in [1usize, 2, 3, 5, 8, 12, 17, 64, 100, 127] {
            let x: Vec<Complex> = (0..n).map(|i| [((i * 7 + 3) % 11) as f64 - 5.0, ((i * 5) % 7) as f64]).collect();
            let fft = Fft::new(n);
            let mut y = x.clone();
            fft.forward(&mut y);
            for (k, got) in y.iter().enumerate() {
                let mut want = [0.0; 2];
                for (t, &v) in x.iter().enumerate() {
                    let p = mul(v, root(k * t % n, n));
                    want = [want[0] + p[0], want[1] + p[1]];
                }
                assert!(
                    (got[0] - want[0]).abs() < 1e-10 && (got[1] - want[1]).abs() < 1e-10,
                    "{n} {k}: {got:?} {want:?}"
                );
            }
            fft.inverse(&mut y);
            assert!(x.iter().zip(&y).all(|(a, b)| (a[0] - b[0]).abs() < 1e-12 && (a[1] - b[1]).abs() < 1e-12), "{n}");
        }
    }
}
