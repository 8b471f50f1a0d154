//! Operators that cut, pad, scale and measure.

use super::activations::int;
use super::place::{Place, drop_attribute, first_output, input, needed, only};
use crate::model::{DataType, Dim, Node, Tensor};
use std::collections::BTreeMap;

type Done = Result<(), String>;

/// Split into a number of parts: from version 18 on the last part may be smaller.
pub(super) fn split(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    drop_attribute(&mut new, "num_outputs");
    if p.opset < 18 || input(node, 1).is_some() {
        p.push(new);
        return Ok(());
    }
    let parts = node.int("num_outputs").unwrap_or(node.outputs.len() as i64);
    if parts < 1 {
        return Err(format!("its attribute 'num_outputs' is {parts}: correct the model"));
    }
    let x = needed(node, 0)?;
    let axis = node.int("axis").unwrap_or(0);
    let size = p.shape(&x).and_then(|s| {
        let at = if axis < 0 { axis + s.len() as i64 } else { axis };
        s.get(usize::try_from(at).ok()?)?.size()
    });
    let Some(size) = size else { return split_by_slices(node, p, axis, parts) };
    let chunk = (size + parts - 1) / parts;
    let sizes = (0..parts).map(|i| (size - i * chunk).clamp(0, chunk)).collect();
    let sizes = p.ints("_sizes", sizes);
    new.inputs.truncate(1);
    new.inputs.push(sizes);
    p.push(new);
    Ok(())
}

/// The parts of a dimension whose size is not known: each from i * chunk to (i + 1) * chunk, which a slice ends at the end.
fn split_by_slices(node: &Node, p: &mut Place, axis: i64, parts: i64) -> Done {
    let x = needed(node, 0)?;
    let shape = p.op("Shape", "_shape", &[&x], &[]);
    let at = p.ints("_axis", vec![axis]);
    let size = p.op("Gather", "_size", &[&shape, &at], &[("axis", int(0))]);
    // Where the axis counts from the end, so does Gather among the dimensions.
    let more = p.ints("_more", vec![parts - 1]);
    let count = p.ints("_parts", vec![parts]);
    let sum = p.op("Add", "_rounding", &[&size, &more], &[]);
    let chunk = p.op("Div", "_chunk", &[&sum, &count], &[]);
    for (i, output) in node.outputs.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
        let (from, to) = (p.ints("_i", vec![i as i64]), p.ints("_next", vec![i as i64 + 1]));
        let start = p.op("Mul", "_start", &[&chunk, &from], &[]);
        let end = p.op("Mul", "_end", &[&chunk, &to], &[]);
        p.op_to("Slice", output, &[&x, &start, &end, &at], &[]);
    }
    Ok(())
}

/// Shape of some dimensions: of all, then cut.
pub(super) fn shape(node: &Node, p: &mut Place) -> Done {
    let (start, end) = (node.int("start").unwrap_or(0), node.int("end"));
    if start == 0 && end.is_none() {
        p.push(node.clone());
        return Ok(());
    }
    let (x, result) = (needed(node, 0)?, first_output(node)?);
    let whole = p.op("Shape", "_whole", &[&x], &[]);
    let (start, end) = (p.ints("_start", vec![start]), p.ints("_end", vec![end.unwrap_or(i64::MAX >> 32)]));
    p.op_to("Slice", &result, &[&whole, &start, &end], &[]);
    Ok(())
}

/// The axes that an input or attribute names, counted from the front.
fn positive(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let at = |a: &i64| {
        let place = if *a < 0 { *a + rank as i64 } else { *a };
        usize::try_from(place).ok().filter(|i| *i < rank).ok_or_else(|| format!("axis {a} is not in rank {rank}"))
    };
    axes.iter().map(at).collect()
}

/// Pad: from version 18 on only the named axes.
pub(super) fn pad(node: &Node, p: &mut Place) -> Done {
    if node.string("mode") == Some("wrap") {
        return Err("its attribute 'mode' is 'wrap', which has no older form".into());
    }
    let Some(axes) = p.ints_of(node, 3, "axes")? else {
        let mut new = node.clone();
        new.inputs.truncate(3);
        p.push(new);
        return Ok(());
    };
    let x = needed(node, 0)?;
    let rank = p.known_rank(&x)?;
    let places = positive(&axes, rank)?;
    let pads = p.ints_of(node, 1, "pads")?.unwrap_or_default();
    if pads.len() != 2 * places.len() {
        return Err(format!("it has {} pads for {} axes: correct the model", pads.len(), places.len()));
    }
    let mut all = vec![0; 2 * rank];
    let (begins, ends) = pads.split_at(places.len());
    for (place, (begin, end)) in places.iter().zip(begins.iter().zip(ends)) {
        if let Some(a) = all.get_mut(*place) {
            *a = *begin;
        }
        if let Some(a) = all.get_mut(place + rank) {
            *a = *end;
        }
    }
    let mut new = node.clone();
    new.inputs.truncate(3);
    if let Some(pads) = new.inputs.get_mut(1) {
        *pads = p.ints("_pads", all);
    }
    p.push(new);
    Ok(())
}

/// Resize: from version 18 on only the named axes, with smoothing and with the sides' proportions kept.
pub(super) fn resize(node: &Node, p: &mut Place) -> Done {
    let mut new = node.clone();
    only(&mut new, "antialias", 0)?;
    match node.string("keep_aspect_ratio_policy") {
        None | Some("stretch") => drop_attribute(&mut new, "keep_aspect_ratio_policy"),
        Some(other) => {
            return Err(format!("its attribute 'keep_aspect_ratio_policy' is '{other}', which has no older form"));
        }
    }
    let coordinates = node.string("coordinate_transformation_mode").unwrap_or("half_pixel");
    if coordinates == "half_pixel_symmetric" || coordinates == "tf_crop_and_resize" && node.ints("axes").is_some() {
        return Err(format!("its coordinates are '{coordinates}', which have no older form here"));
    }
    let Some(axes) = node.ints("axes").map(<[i64]>::to_vec) else {
        p.push(new);
        return Ok(());
    };
    drop_attribute(&mut new, "axes");
    let x = needed(node, 0)?;
    let rank = p.known_rank(&x)?;
    let places = positive(&axes, rank)?;
    if let Some(sizes) = input(node, 3) {
        let whole = whole_sizes(p, node, &places, rank)?;
        if let Some(place) = new.inputs.iter_mut().find(|i| *i == sizes) {
            *place = whole;
        }
    } else {
        let given = scales(p, node, &places)?;
        let mut all = vec![1f32; rank];
        for (place, scale) in places.iter().zip(given) {
            if let Some(a) = all.get_mut(*place) {
                *a = scale;
            }
        }
        let whole = p.tensor("_scales", Tensor::from_vec(DataType::Float32, vec![rank as i64], all));
        if let Some(place) = new.inputs.get_mut(2) {
            *place = whole;
        }
    }
    p.push(new);
    Ok(())
}

fn scales(p: &Place, node: &Node, places: &[usize]) -> Result<Vec<f32>, String> {
    let name = input(node, 2).ok_or("it has neither scales nor sizes: correct the model")?;
    let found = p.constant(name).and_then(Tensor::to_f64).filter(|s| s.len() == places.len());
    let found = found.ok_or_else(|| format!("its scales ('{name}') are not one constant for each of its axes"))?;
    Ok(found.into_iter().map(|s| s as f32).collect())
}

/// Sizes for every dimension: the given ones, and those that the input has.
fn whole_sizes(p: &mut Place, node: &Node, places: &[usize], rank: usize) -> Result<crate::model::Name, String> {
    let (x, sizes) = (needed(node, 0)?, needed(node, 3)?);
    let given: BTreeMap<usize, usize> = places.iter().enumerate().map(|(i, place)| (*place, i)).collect();
    let dims = p.shape(&x).unwrap_or_default();
    if let Some(values) = p.constant(&sizes).and_then(Tensor::to_i64) {
        let known = |d: usize| match given.get(&d) {
            Some(i) => values.get(*i).copied(),
            None => dims.get(d).and_then(Dim::size),
        };
        if let Some(all) = (0..rank).map(known).collect::<Option<Vec<i64>>>() {
            return Ok(p.ints("_sizes", all));
        }
    }
    let shape = p.op("Shape", "_shape", &[&x], &[]);
    let mut parts = Vec::new();
    for d in 0..rank {
        let (from, at) = match given.get(&d) {
            Some(i) => (&sizes, *i),
            None => (&shape, d),
        };
        let at = p.ints("_at", vec![at as i64]);
        parts.push(p.op("Gather", "_dim", &[from, &at], &[("axis", int(0))]));
    }
    let parts: Vec<_> = parts.iter().collect();
    Ok(p.op("Concat", "_sizes", &parts, &[("axis", int(0))]))
}
