//! What the last step of a classifier or regressor does to the scores of one row.

use crate::Result;
use crate::backend::cpu::kernels::math::erf_f64;
use crate::bail;

/// The transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Nothing.
    None,
    /// Exponentials that sum to 1.
    Softmax,
    /// The sigmoid of each score.
    Logistic,
    /// The same as softmax, but scores of 0 stay 0.
    SoftmaxZero,
    /// The quantile of the normal distribution.
    Probit,
}

impl Post {
    /// By ONNX's name.
    pub fn from_name(name: &str) -> Result<Post> {
        Ok(match name {
            "NONE" => Post::None,
            "SOFTMAX" => Post::Softmax,
            "LOGISTIC" => Post::Logistic,
            "SOFTMAX_ZERO" => Post::SoftmaxZero,
            "PROBIT" => Post::Probit,
            other => bail!(InvalidModel, "its attribute 'post_transform' is '{other}'"),
        })
    }

    /// By ONNX's number.
    pub fn from_number(number: i64) -> Result<Post> {
        match number {
            0 => Ok(Post::None),
            1 => Ok(Post::Softmax),
            2 => Ok(Post::Logistic),
            3 => Ok(Post::SoftmaxZero),
            4 => Ok(Post::Probit),
            other => bail!(InvalidModel, "its attribute 'post_transform' is {other}"),
        }
    }

    /// Applies it to one row.
    pub fn apply(self, row: &mut [f64]) {
        match self {
            Post::None => {}
            Post::Logistic => row.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Post::Probit => row.iter_mut().for_each(|v| *v = quantile(*v)),
            Post::Softmax | Post::SoftmaxZero => {
                let zero = |v: f64| self == Post::SoftmaxZero && v == 0.0;
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter_mut().for_each(|v| *v = if zero(*v) { 0.0 } else { (*v - top).exp() });
                let sum: f64 = row.iter().sum();
                if sum > 0.0 {
                    row.iter_mut().for_each(|v| *v /= sum);
                }
            }
        }
    }
}

/// The number below which a normal variable lies with probability `p`: a first guess, then Newton's steps.
fn quantile(p: f64) -> f64 {
    let y = 2.0 * p - 1.0;
    if !(-1.0 < y && y < 1.0) {
        return if y.abs() == 1.0 { y * f64::INFINITY } else { f64::NAN };
    }
    let log = (-y * y).ln_1p();
    let a = 2.0 / (std::f64::consts::PI * 0.147) + log / 2.0;
    let mut x = ((a * a - log / 0.147).sqrt() - a).max(0.0).sqrt().copysign(y);
    for _ in 0..3 {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
        if slope > 0.0 {
            x -= (erf_f64(x) - y) / slope;
        }
    }
    x * std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (p, want) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.01, -2.326_347_874_040_841)] {
            assert!((quantile(p) - want).abs() < 1e-12, "{p}: {}", quantile(p));
        }
        assert!(quantile(1.0) == f64::INFINITY && quantile(1.5).is_nan());
    }

    #[test]
    fn zeros_stay_where_softmax_leaves_them() {
        let mut row = [0.0, 1.0, 1.0];
        Post::SoftmaxZero.apply(&mut row);
        assert_eq!(row, [0.0, 0.5, 0.5]);
        Post::Softmax.apply(&mut row);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-15 && row[0] > 0.0);
    }
}
