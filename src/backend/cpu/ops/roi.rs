//! Regions of interest: RoiAlign, MaxRoiPool and NonMaxSuppression.

use super::node::integers;
use super::sample::{Tap, add_taps, channels_last, channels_second};
use super::wide::{computing, same_widened, with_wide};
use super::{Built, Entry, Inputs, NodeCx, entry, tensor_kernel};
use crate::backend::cpu::exec::Cx;
use crate::backend::cpu::kernels::elementwise::cast_float;
use crate::backend::cpu::kernels::math::Float;
use crate::backend::cpu::tensor::Tensor;
use crate::model::DataType;
use crate::{Result, bail, err};

/// The operators of this family.
pub const TABLE: &[Entry] =
    &[entry("RoiAlign", roi_align), entry("MaxRoiPool", max_roi_pool), entry("NonMaxSuppression", suppression)];

/// A bin with more samples than this along one side is taken for a mistake in the regions.
const MAX_SAMPLES: f64 = 4096.0;

/// A size that an attribute gives.
fn size(value: i64, name: &str) -> Result<usize> {
    let found = usize::try_from(value).ok().filter(|n| (1..=1 << 20).contains(n));
    found.ok_or_else(|| err!(InvalidModel, "its attribute '{name}' is {value}, but must be from 1 to {}", 1 << 20))
}

#[derive(Debug, Clone, Copy)]
struct Align {
    height: usize,
    width: usize,
    /// Samples a side of a bin; 0 lets the region's size decide.
    samples: usize,
    scale: f32,
    max: bool,
    half_pixel: bool,
}

fn roi_align(cx: &NodeCx) -> Built {
    cx.check_inputs(3, 3)?;
    let shifted = if cx.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let align = Align {
        height: size(cx.int("output_height", 1)?, "output_height")?,
        width: size(cx.int("output_width", 1)?, "output_width")?,
        samples: match cx.int("sampling_ratio", 0)? {
            ..=0 => 0,
            n => size(n, "sampling_ratio")?.min(MAX_SAMPLES as usize),
        },
        scale: cx.float("spatial_scale", 1.0)?,
        max: match cx.string("mode", "avg")?.to_ascii_lowercase().as_str() {
            "avg" => false,
            "max" => true,
            other => bail!(InvalidModel, "its attribute 'mode' is '{other}', but must be avg or max"),
        },
        half_pixel: match cx.string("coordinate_transformation_mode", shifted)?.to_ascii_lowercase().as_str() {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => bail!(InvalidModel, "its attribute 'coordinate_transformation_mode' is '{other}'"),
        },
    };
    tensor_kernel(move |cx, inputs| {
        let (x, rois, images) = (inputs.tensor(0)?, inputs.tensor(1)?, integers(inputs.tensor(2)?)?);
        let (&[n, c, _, _], true) = (x.dims(), rois.dims() == [images.len(), 4]) else {
            bail!(ShapeMismatch, "{images:?} regions {rois:?} of an input {x:?}");
        };
        let images = images.iter().map(|&i| image(i as f64, n)).collect::<Result<Vec<_>>>()?;
        let data = channels_last(cx, x)?;
        let rois = same_widened(cx, rois, x.dtype(), data.dtype())?;
        let mut y = Tensor::new(cx.pool, data.dtype(), vec![images.len(), align.height, align.width, c])?;
        if !y.is_empty() {
            with_wide!(data.dtype(), F => align.run::<F>(cx, &data, rois.slice()?, &images, y.slice_mut()?)?);
        }
        channels_second(cx, &y, x.dtype())
    })
}

/// The number of an image in the batch.
fn image(number: f64, batch: usize) -> Result<usize> {
    match number >= 0.0 && number < batch as f64 {
        true => Ok(number as usize),
        false => Err(err!(Execution, "a region is of image {number}, but the batch has {batch}")),
    }
}

impl Align {
    fn run<F: Float>(&self, cx: &Cx, data: &Tensor, rois: &[F], images: &[usize], y: &mut [F]) -> Result<()> {
        let &[_, height, width, channels] = data.dims() else { bail!(Internal, "channels are not last") };
        let from = data.slice::<F>()?;
        let scale = F::of(self.scale.into());
        let shift = F::of(if self.half_pixel { 0.5 } else { 0.0 });
        let spans = rois
            .chunks_exact(4)
            .map(|r| {
                let side = |low: F, high: F, bins: usize| {
                    let (start, end) = (low * scale - shift, high * scale - shift);
                    // Without the shift, regions are at least one element large.
                    let length = if self.half_pixel { end - start } else { (end - start).larger(F::ONE) };
                    let bin = length / F::of(bins as f64);
                    let wanted = if self.samples > 0 { self.samples as f64 } else { bin.ceil().wide().max(0.0) };
                    if wanted > MAX_SAMPLES || wanted.is_nan() {
                        bail!(Execution, "a region from {low:?} to {high:?} needs {wanted} samples a bin");
                    }
                    Ok((start, bin, wanted as usize))
                };
                Ok((side(r[1], r[3], self.height)?, side(r[0], r[2], self.width)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let work = y.len() * 64;
        cx.threads.pieces(y, channels, work, |bin, out| {
            let (roi, row, column) = (bin / self.width / self.height, bin / self.width % self.height, bin % self.width);
            let ((top, bin_h, down), (left, bin_w, across)) = spans[roi];
            let plane = &from[images[roi] * height * width * channels..][..height * width * channels];
            let point = |start: F, bin: F, i: usize, sample: usize, samples: usize| {
                let inner = (F::of(sample as f64) + F::of(0.5)) * bin / F::of(samples as f64);
                start + F::of(i as f64) * bin + inner
            };
            out.fill(F::ZERO);
            let mut first = true;
            for sy in 0..down {
                let v = around(point(top, bin_h, row, sy, down), height);
                for sx in 0..across {
                    let h = around(point(left, bin_w, column, sx, across), width);
                    // A sample outside the image is zero.
                    let taps = match (&v, &h) {
                        (Some(v), Some(h)) => &corners(v, h, width)[..],
                        _ => &[],
                    };
                    if !self.max {
                        add_taps(out, plane, taps);
                        continue;
                    }
                    if taps.is_empty() {
                        out.iter_mut().for_each(|o| *o = if first { F::ZERO } else { o.larger(F::ZERO) });
                        first = false;
                    }
                    // The largest of the weighted corners, as the operator defines its mode 'max'.
                    for tap in taps {
                        for (o, &x) in out.iter_mut().zip(&plane[tap.at * channels..]) {
                            let value = tap.weight * x;
                            *o = if first { value } else { o.larger(value) };
                        }
                        first = false;
                    }
                }
            }
            if !self.max {
                let count = F::of((down * across).max(1) as f64);
                out.iter_mut().for_each(|o| *o = *o / count);
            }
        });
        Ok(())
    }
}

/// The two elements around a coordinate, and the weight of the second; none if it lies outside.
fn around<F: Float>(v: F, size: usize) -> Option<(usize, usize, F)> {
    if !(v >= -F::ONE && v <= F::of(size as f64)) || size == 0 {
        return None;
    }
    let v = v.larger(F::ZERO);
    let low = v.floor().wide() as usize;
    match low >= size - 1 {
        true => Some((size - 1, size - 1, F::ZERO)),
        false => Some((low, low + 1, v - F::of(low as f64))),
    }
}

fn corners<F: Float>(v: &(usize, usize, F), h: &(usize, usize, F), width: usize) -> [Tap<F>; 4] {
    let tap = |y: usize, x: usize, a: F, b: F| Tap { at: y * width + x, weight: a * b };
    let (up, left) = (F::ONE - v.2, F::ONE - h.2);
    [tap(v.0, h.0, up, left), tap(v.0, h.1, up, h.2), tap(v.1, h.0, v.2, left), tap(v.1, h.1, v.2, h.2)]
}

fn max_roi_pool(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 2)?;
    let pooled = cx.required_ints("pooled_shape")?;
    let &[height, width] = pooled.as_slice() else {
        bail!(InvalidModel, "its attribute 'pooled_shape' is {pooled:?}, but must be a height and a width");
    };
    let (height, width) = (size(height, "pooled_shape")?, size(width, "pooled_shape")?);
    let scale = f64::from(cx.float("spatial_scale", 1.0)?);
    tensor_kernel(move |cx, inputs| {
        let (x, rois) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (&[n, c, h, w], &[count, 5]) = (x.dims(), rois.dims()) else {
            bail!(ShapeMismatch, "regions {rois:?} of an input {x:?}");
        };
        let wide = computing(x.dtype(), "MaxRoiPool")?;
        let (data, rois) = (cast_float(cx, x, wide)?, same_widened(cx, rois, x.dtype(), wide)?);
        let mut y = Tensor::new(cx.pool, wide, vec![count, c, height, width])?;
        with_wide!(wide, F => {
            let (data, rois) = (data.slice::<F>()?, rois.slice::<F>()?);
            let images = rois.chunks_exact(5).map(|r| image(r[0].wide(), n)).collect::<Result<Vec<_>>>()?;
            let work = y.len() * 16;
            cx.threads.pieces(y.slice_mut::<F>()?, height * width, work, |i, out| {
                let (roi, channel) = (i / c, i % c);
                let r = &rois[roi * 5..roi * 5 + 5];
                let plane = &data[(images[roi] * c + channel) * h * w..][..h * w];
                for (k, o) in out.iter_mut().enumerate() {
                    let rows = bin::<F>(r[2], r[4], scale, k / width, height, h);
                    let columns = bin::<F>(r[1], r[3], scale, k % width, width, w);
                    let all = rows.flat_map(|y| columns.clone().map(move |x| plane[y * w + x]));
                    // An empty bin is zero.
                    *o = all.reduce(|a, b| a.larger(b)).unwrap_or(F::ZERO);
                }
            });
        });
        cast_float(cx, &y, x.dtype())
    })
}

/// The elements of one bin of a region along one side; a region's ends are rounded to elements and belong to it.
fn bin<F: Float>(low: F, high: F, scale: f64, i: usize, bins: usize, size: usize) -> std::ops::Range<usize> {
    let scaled = |v: F| (v * F::of(scale)).wide().round();
    let (start, end) = (scaled(low), scaled(high));
    let step = F::of((end - start + 1.0).max(1.0)) / F::of(bins as f64);
    let clip = |v: f64| v.clamp(0.0, size as f64) as usize;
    let first = clip((step * F::of(i as f64)).floor().wide() + start);
    let last = clip((step * F::of(i as f64 + 1.0)).ceil().wide() + start);
    first..last.max(first)
}

fn suppression(cx: &NodeCx) -> Built {
    cx.check_inputs(2, 5)?;
    let centered = cx.flag("center_point_box", false)?;
    tensor_kernel(move |cx, inputs| {
        let (boxes, scores) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (&[batch, n, 4], &[sb, classes, sn]) = (boxes.dims(), scores.dims()) else {
            bail!(ShapeMismatch, "boxes of shape {:?} and scores of shape {:?}", boxes.dims(), scores.dims());
        };
        if sb != batch || sn != n {
            bail!(ShapeMismatch, "boxes of shape {:?} and scores of shape {:?}", boxes.dims(), scores.dims());
        }
        let most = match inputs.opt_ints(2)?.as_deref() {
            None | Some([]) => 0,
            Some([n, ..]) => usize::try_from(*n).unwrap_or(0),
        };
        if most == 0 || n == 0 {
            return Tensor::new(cx.pool, DataType::Int64, vec![0, 3]);
        }
        let overlap = number(cx, inputs, 3)?.unwrap_or(0.0);
        let threshold = number(cx, inputs, 4)?;
        let (boxes, scores) = (cast_float(cx, boxes, DataType::Float32)?, cast_float(cx, scores, DataType::Float32)?);
        let (boxes, scores) = (boxes.slice::<f32>()?, scores.slice::<f32>()?);
        let mut selected: Vec<i64> = Vec::new();
        for b in 0..batch {
            let corners: Vec<[f32; 4]> =
                boxes[b * n * 4..(b + 1) * n * 4].chunks_exact(4).map(|v| rectangle(v, centered)).collect();
            for c in 0..classes {
                cx.check_cancelled()?;
                let scores = &scores[(b * classes + c) * n..][..n];
                for i in best(&corners, scores, most, overlap, threshold) {
                    selected.extend([b as i64, c as i64, i as i64]);
                }
            }
        }
        Tensor::from_slice(cx.pool, DataType::Int64, vec![selected.len() / 3, 3], &selected)
    })
}

/// An optional single number.
fn number(cx: &Cx, inputs: &Inputs, i: usize) -> Result<Option<f32>> {
    let Some(t) = inputs.opt(i)? else { return Ok(None) };
    Ok(cast_float(cx, t, DataType::Float32)?.slice::<f32>()?.first().copied())
}

/// Lowest and highest coordinates of a box that is given by two corners or by centre and size.
fn rectangle(v: &[f32], centered: bool) -> [f32; 4] {
    match *v {
        [x, y, w, h] if centered => [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0],
        [y1, x1, y2, x2] => [x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)],
        _ => [0.0; 4],
    }
}

/// The boxes to keep, best first; of equal scores the first box comes first.
fn best(boxes: &[[f32; 4]], scores: &[f32], most: usize, overlap: f32, threshold: Option<f32>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).filter(|&i| threshold.is_none_or(|t| scores[i] > t)).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.len() >= most {
            break;
        }
        if !kept.iter().any(|&k| intersection_over_union(&boxes[i], &boxes[k]) > overlap) {
            kept.push(i);
        }
    }
    kept
}

fn intersection_over_union(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let (w, h) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let (first, second) = (area(a), area(b));
    let common = w * h;
    let all = first + second - common;
    // Boxes that do not meet never suppress each other, whatever the threshold.
    let meet = w > 0.0 && h > 0.0 && common > 0.0 && first > 0.0 && second > 0.0 && all > 0.0;
    if meet { common / all } else { f32::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_kept_best_first_and_only_once() {
        let boxes: Vec<[f32; 4]> =
            [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.1], [0.0, 10.0, 1.0, 11.0], [0.0, 10.0, 1.0, 11.0]]
                .iter()
                .map(|b| rectangle(b, false))
                .collect();
        let scores = [0.9, 0.95, 0.5, 0.5];
        assert_eq!(best(&boxes, &scores, 9, 0.5, None), [1, 2], "the second corner may be the lower one");
        assert_eq!(best(&boxes, &scores, 9, 0.95, None), [1, 0, 2], "equal scores: the first box");
        assert_eq!(best(&boxes, &scores, 9, 0.95, Some(0.5)), [1, 0], "a score must exceed the threshold");
        assert_eq!(best(&boxes, &scores, 1, 0.95, None), [1]);
        assert_eq!(best(&boxes[..2], &[0.1, f32::NAN], 0, 0.5, None), [] as [usize; 0]);
    }

    #[test]
    fn bins_of_a_region_cover_it() {
        assert_eq!(bin(2.0f32, 5.0, 1.0, 0, 2, 10), 2..4);
        assert_eq!(bin(2.0f32, 5.0, 1.0, 1, 2, 10), 4..6);
        assert_eq!(bin(0.0f32, 9.0, 0.5, 1, 2, 4), 3..4, "nine halves are rounded away from zero, then cut at the end");
        assert_eq!(bin(20.0f32, 30.0, 1.0, 0, 2, 10), 10..10);
    }

    #[test]
    fn samples_beyond_the_image_are_left_out() {
        assert_eq!(around(-1.5f32, 4), None);
        assert_eq!(around(-0.5f32, 4), Some((0, 1, 0.0)));
        assert_eq!(around(3.5f32, 4), Some((3, 3, 0.0)));
        assert_eq!(around(4.5f32, 4), None);
        assert_eq!(around(0.0f32, 0), None);
    }
}
