//! Attributes that convolutions and pools share: kernel, strides, dilations, padding.

use super::NodeCx;
use crate::backend::cpu::kernels::conv::Window;
use crate::{Result, bail, err};

/// Sizes above this are refused, so that sums and products of them cannot overflow.
const MAX_SIZE: usize = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq)]
enum AutoPad {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

/// The attributes, as the node gives them.
#[derive(Debug, Clone)]
pub struct WindowSpec {
    /// Sizes of the kernel, where the node says them.
    pub kernel: Option<Vec<usize>>,
    /// Strides.
    pub strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    /// Padding before and after.
    pub pads: Option<Vec<usize>>,
    auto_pad: AutoPad,
    /// Output sizes round up.
    pub ceil: bool,
}

impl WindowSpec {
    /// Reads the attributes.
    pub fn read(cx: &NodeCx) -> Result<WindowSpec> {
        Ok(WindowSpec {
            kernel: sizes(cx, "kernel_shape", 1)?,
            strides: sizes(cx, "strides", 1)?,
            dilations: sizes(cx, "dilations", 1)?,
            pads: sizes(cx, "pads", 0)?,
            auto_pad: match cx.string("auto_pad", "NOTSET")?.as_str() {
                "NOTSET" | "" => AutoPad::Explicit,
                "SAME_UPPER" => AutoPad::SameUpper,
                "SAME_LOWER" => AutoPad::SameLower,
                "VALID" => AutoPad::Valid,
                other => bail!(InvalidModel, "its attribute 'auto_pad' is '{other}'"),
            },
            ceil: cx.flag("ceil_mode", false)?,
        })
    }

    /// True if the padding follows from the sizes, with the odd element before (`Some(true)`) or after.
    pub fn same(&self) -> Option<bool> {
        match self.auto_pad {
            AutoPad::SameUpper => Some(false),
            AutoPad::SameLower => Some(true),
            _ => None,
        }
    }

    /// A list of one entry a dimension, filled up with `default`.
    pub fn list(&self, list: &Option<Vec<usize>>, rank: usize, what: &str, default: usize) -> Result<Vec<usize>> {
        match list {
            None => Ok(vec![default; rank]),
            Some(l) if l.len() == rank => Ok(l.clone()),
            Some(l) => Err(err!(
                InvalidModel,
                "its attribute '{what}' has {} entries, but the input has {rank} spatial dimensions",
                l.len()
            )),
        }
    }

    /// Strides for that many spatial dimensions.
    pub fn strides(&self, rank: usize) -> Result<Vec<usize>> {
        self.list(&self.strides, rank, "strides", 1)
    }

    /// Dilations for that many spatial dimensions.
    pub fn dilations(&self, rank: usize) -> Result<Vec<usize>> {
        self.list(&self.dilations, rank, "dilations", 1)
    }

    /// Explicit padding, before and after, for that many spatial dimensions.
    pub fn pads(&self, rank: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        let all = match self.auto_pad {
            AutoPad::Explicit => self.list(&self.pads, rank * 2, "pads", 0)?,
            _ => vec![0; rank * 2],
        };
        Ok((all[..rank].to_vec(), all[rank..].to_vec()))
    }

    /// The windows over an input with these spatial sizes, and the padding after the last element.
    pub fn window(&self, input: &[usize], kernel: &[usize]) -> Result<(Window, [usize; 3])> {
        let rank = input.len();
        if rank == 0 || rank > 3 {
            bail!(Unsupported, "{rank} spatial dimensions (1 to 3 are supported)");
        }
        if let Some(declared) = &self.kernel
            && declared != kernel
        {
            bail!(ShapeMismatch, "its attribute 'kernel_shape' is {declared:?}, but the weights are of {kernel:?}");
        }
        let kernel = self.list(&Some(kernel.to_vec()), rank, "kernel_shape", 1)?;
        let (strides, dilations) = (self.strides(rank)?, self.dilations(rank)?);
        let (before, after) = self.pads(rank)?;
        let mut w =
            Window { input: [1; 3], output: [1; 3], kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pad: [0; 3] };
        let mut tail = [0usize; 3];
        for i in 0..rank {
            let d = 3 - rank + i;
            let reach = kernel[i]
                .checked_sub(1)
                .and_then(|k| k.checked_mul(dilations[i])?.checked_add(1))
                .filter(|r| *r <= MAX_SIZE && input[i] <= MAX_SIZE)
                .ok_or_else(|| err!(ShapeMismatch, "a kernel of {} with dilation {}", kernel[i], dilations[i]))?;
            let (mut pad, mut end) = (before[i], after[i]);
            let out = if let Some(lower) = self.same() {
                let out = input[i].div_ceil(strides[i]);
                let total = (out.saturating_sub(1) * strides[i] + reach).saturating_sub(input[i]);
                let small = total / 2;
                (pad, end) = if lower { (total - small, small) } else { (small, total - small) };
                out
            } else {
                let room = (input[i] + pad + end).checked_sub(reach).ok_or_else(|| {
                    err!(
                        ShapeMismatch,
                        "a kernel that reaches over {reach} elements does not fit an input of {} elements with padding \
                         {pad} and {end}",
                        input[i]
                    )
                })?;
                let mut out = if self.ceil { room.div_ceil(strides[i]) } else { room / strides[i] } + 1;
                // A window that would start beyond the input and its front padding is left out.
                if self.ceil && (out - 1) * strides[i] >= input[i] + pad {
                    out -= 1;
                }
                out
            };
            w.input[d] = input[i];
            w.output[d] = out;
            w.kernel[d] = kernel[i];
            w.stride[d] = strides[i];
            w.dilation[d] = dilations[i];
            w.pad[d] = pad;
            tail[d] = end;
        }
        Ok((w, tail))
    }
}

fn sizes(cx: &NodeCx, name: &str, min: usize) -> Result<Option<Vec<usize>>> {
    let Some(list) = cx.ints(name)? else { return Ok(None) };
    list.iter()
        .map(|&v| {
            usize::try_from(v).ok().filter(|v| (min..=MAX_SIZE).contains(v)).ok_or_else(|| {
                err!(
                    InvalidModel,
                    "its attribute '{name}' is {list:?}, but entries from {min} to {MAX_SIZE} are possible"
                )
            })
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// The spatial output sizes, as many as the input has.
pub fn spatial(window: &Window, rank: usize) -> Vec<usize> {
    window.output[3 - rank..].to_vec()
}
