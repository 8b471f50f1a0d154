//! How a model is converted.

use super::boundary::call;
use super::dtype::mezzo_dtype_t;
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::keys::{self, Key, add_list, boolean};
use crate::model::upgrade::OPSETS;
use crate::model::{DataType, ValueType};
use crate::precision::{ConstantPolicy, ConvertOptions, Policy};
use std::ffi::c_char;

/// How far a conversion goes, one of mezzo_policy_e.
pub type mezzo_policy_t = i32;

/// Values of mezzo_policy_t.
#[repr(C)]
pub enum mezzo_policy_e {
    /// Also keeps FP32 where FP16 is known to overflow or to lose the meaning.
    MEZZO_POLICY_SAFE = 0,
    /// Converts all that is legal, as PyTorch's half() does.
    MEZZO_POLICY_PURE = 1,
}

/// What is done with constants that the target type cannot hold, one of mezzo_constants_e.
pub type mezzo_constants_t = i32;

/// Values of mezzo_constants_t.
#[repr(C)]
pub enum mezzo_constants_e {
    /// Their operator stays in FP32.
    MEZZO_CONSTANTS_KEEP_FP32 = 0,
    /// Their values become the largest finite value of the type (65504 for FP16), sign kept.
    MEZZO_CONSTANTS_CLAMP = 1,
    /// The conversion fails and names them.
    MEZZO_CONSTANTS_ERROR = 2,
}

/// How a model is converted. Exclusive: one thread at a time.
pub struct mezzo_convert_options_t {
    _opaque: [u8; 0],
}

handle!(mezzo_convert_options_t, ConvertOptions, "a convert options", b"cvop");

const KEYS: &[Key<ConvertOptions>] = &[
    Key {
        name: "precision",
        values: "fp16 or bf16",
        set: |o, v| {
            o.precision = DataType::from_name(v).filter(|t| t.is_half())?;
            Some(())
        },
    },
    Key {
        name: "keep_io",
        values: "true or false",
        set: |o, v| {
            o.keep_io = boolean(v)?;
            Some(())
        },
    },
    Key {
        name: "keep_io_of",
        values: "names of inputs and outputs that stay FP32, separated by commas",
        set: |o, v| add_named(o, v, true),
    },
    Key {
        name: "convert_io_of",
        values: "names of inputs and outputs that are converted in spite of keep_io, separated by commas",
        set: |o, v| add_named(o, v, false),
    },
    Key {
        name: "keep_op_types",
        values: "operator types that stay FP32, separated by commas",
        set: |o, v| add_list(&mut o.keep_op_types, v),
    },
    Key {
        name: "keep_nodes",
        values: "node names that stay FP32, with the wildcards * and ?, separated by commas",
        set: |o, v| add_list(&mut o.keep_node_names, v),
    },
    Key {
        name: "keep_outputs",
        values: "tensors whose nodes stay FP32, separated by commas",
        set: |o, v| add_list(&mut o.keep_outputs, v),
    },
    Key {
        name: "policy",
        values: "safe or pure",
        set: |o, v| {
            o.policy = match v {
                "safe" => Policy::Safe,
                "pure" => Policy::Pure,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "constants",
        values: "keep_fp32, clamp or error",
        set: |o, v| {
            o.constants = match v {
                "keep_fp32" => ConstantPolicy::KeepFp32,
                "clamp" => ConstantPolicy::Clamp,
                "error" => ConstantPolicy::Error,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "opset",
        values: "a version of ai.onnx, or 0 to leave the model's",
        set: |o, v| {
            o.opset = opset(v.parse().ok()?)?;
            Some(())
        },
    },
    Key { name: "declare", values: "NAME=TYPE, as in features=fp32", set: |o, v| o.declared.add(v).ok() },
    Key {
        name: "min_half_share",
        values: "a number from 0 to 1",
        set: |o, v| {
            o.min_half_share = v.parse().ok().filter(|s| (0.0..=1.0).contains(s))?;
            Some(())
        },
    },
];

/// 0 leaves the version as it is; `None` for a number that is no version.
fn opset(version: i64) -> Option<Option<i64>> {
    (version == 0 || OPSETS.contains(&version)).then(|| Some(version).filter(|v| *v != 0))
}

fn add_named(options: &mut ConvertOptions, names: &str, keep: bool) -> Option<()> {
    let mut list = Vec::new();
    add_list(&mut list, names)?;
    options.keep_io_named.extend(list.into_iter().map(|name| (name, keep)));
    Some(())
}

/// New options with the defaults: FP16, inputs and outputs converted, policy safe, constants that do not fit kept in
/// FP32. Free them with mezzo_convert_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_convert_options_new() -> *mut mezzo_convert_options_t {
    owned(ConvertOptions::default())
}

/// Frees options. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_free(options: *mut mezzo_convert_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets the target type: MEZZO_DTYPE_FP16 (default) or MEZZO_DTYPE_BF16.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT for other types.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_precision(
    options: *mut mezzo_convert_options_t,
    precision: mezzo_dtype_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_precision", |c| {
            let options = c.get_mut("options", options)?;
            let precision = c.dtype("precision", precision)?;
            if !precision.is_half() {
                return Err(c.invalid(
                    "precision",
                    format_args!("is {precision}, but a model is converted to fp16 or bf16: give one of these"),
                ));
            }
            options.precision = precision;
            Ok(())
        })
    }
}

/// Sets whether the model's inputs and outputs stay FP32 (false by default: they are converted too).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_keep_io(
    options: *mut mezzo_convert_options_t,
    keep: bool,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_keep_io", |c| {
            c.get_mut("options", options)?.keep_io = keep;
            Ok(())
        })
    }
}

/// Decides for one input or output, whatever mezzo_convert_options_set_keep_io() says.
///
/// name: of the input or output. A name that the model does not have makes the conversion fail.
/// keep: whether it stays FP32.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_keep_io_of(
    options: *mut mezzo_convert_options_t,
    name: *const c_char,
    keep: bool,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_keep_io_of", |c| {
            let options = c.get_mut("options", options)?;
            options.keep_io_named.push((c.text("name", name)?.to_string(), keep));
            Ok(())
        })
    }
}

/// Keeps all nodes of an operator type in FP32.
///
/// op_type: "Softmax", or "domain::Op" for operators of other domains.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_keep_op_type(
    options: *mut mezzo_convert_options_t,
    op_type: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_keep_op_type", |c| {
            let options = c.get_mut("options", options)?;
            options.keep_op_types.push(c.text("op_type", op_type)?.to_string());
            Ok(())
        })
    }
}

/// Keeps nodes in FP32 by their names.
///
/// pattern: a node name; `*` stands for any characters and `?` for one.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_keep_node(
    options: *mut mezzo_convert_options_t,
    pattern: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_keep_node", |c| {
            let options = c.get_mut("options", options)?;
            options.keep_node_names.push(c.text("pattern", pattern)?.to_string());
            Ok(())
        })
    }
}

/// Keeps the node that makes a tensor in FP32 (the way to name a node without a name).
///
/// tensor: name of one of the node's outputs.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_keep_output(
    options: *mut mezzo_convert_options_t,
    tensor: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_keep_output", |c| {
            let options = c.get_mut("options", options)?;
            options.keep_outputs.push(c.text("tensor", tensor)?.to_string());
            Ok(())
        })
    }
}

/// Sets how far the conversion goes; MEZZO_POLICY_SAFE by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `policy` is none of MEZZO_POLICY_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_policy(
    options: *mut mezzo_convert_options_t,
    policy: mezzo_policy_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_policy", |c| {
            let options = c.get_mut("options", options)?;
            options.policy = match policy {
                0 => Policy::Safe,
                1 => Policy::Pure,
                _ => return Err(c.invalid("policy", format_args!("is {policy}, which is none of MEZZO_POLICY_*"))),
            };
            Ok(())
        })
    }
}

/// Sets what is done with constants that do not fit; MEZZO_CONSTANTS_KEEP_FP32 by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `constants` is none of MEZZO_CONSTANTS_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_constants(
    options: *mut mezzo_convert_options_t,
    constants: mezzo_constants_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_constants", |c| {
            let options = c.get_mut("options", options)?;
            options.constants = match constants {
                0 => ConstantPolicy::KeepFp32,
                1 => ConstantPolicy::Clamp,
                2 => ConstantPolicy::Error,
                _ => {
                    let problem = format_args!("is {constants}, which is none of MEZZO_CONSTANTS_*");
                    return Err(c.invalid("constants", problem));
                }
            };
            Ok(())
        })
    }
}

/// Declares the element type of an output of an operator that ONNX does not know and that the model itself does not
/// state. Such operators stay in FP32 as they are; the conversion must only know what they give.
///
/// tensor: name of the output.
/// dtype: its element type in the model that is converted.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `dtype` is none of MEZZO_DTYPE_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_declare(
    options: *mut mezzo_convert_options_t,
    tensor: *const c_char,
    dtype: mezzo_dtype_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_declare", |c| {
            let options = c.get_mut("options", options)?;
            let ty = ValueType::tensor(c.dtype("dtype", dtype)?, None);
            options.declared.0.insert(c.text("tensor", tensor)?.to_string(), ty);
            Ok(())
        })
    }
}

/// Sets the version of ai.onnx that the model is brought to before its conversion, 7 to 28; 0, the default, leaves it.
/// Many operators take bfloat16 only from version 13 or 22 on. A conversion never changes the version by itself.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such version. (The conversion fails if the model is newer, or has
/// a node that the version has no form for.)
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_opset(
    options: *mut mezzo_convert_options_t,
    version: i64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_opset", |c| {
            let options = c.get_mut("options", options)?;
            let (oldest, newest) = (OPSETS.start(), OPSETS.end());
            options.opset = opset(version).ok_or_else(|| {
                c.invalid("version", format_args!("is {version}: give {oldest} to {newest}, or 0 to leave the model's"))
            })?;
            Ok(())
        })
    }
}

/// Sets the least share of nodes that must compute in half precision, of those that can; below it the conversion fails
/// with MEZZO_ERROR_PRECISION. 0 by default.
///
/// share: from 0 to 1.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `share` is not from 0 to 1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set_min_half_share(
    options: *mut mezzo_convert_options_t,
    share: f64,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set_min_half_share", |c| {
            let options = c.get_mut("options", options)?;
            if !(0.0..=1.0).contains(&share) {
                return Err(c.invalid("share", format_args!("is {share}: give a number from 0 to 1")));
            }
            options.min_half_share = share;
            Ok(())
        })
    }
}

/// Sets an option by name: precision (fp16, bf16), keep_io (true, false), keep_io_of, convert_io_of, keep_op_types,
/// keep_nodes, keep_outputs (lists separated by commas, added), policy (safe, pure), constants (keep_fp32, clamp, error),
/// declare (NAME=TYPE), opset (a version), min_half_share (0 to 1).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_convert_options_set(
    options: *mut mezzo_convert_options_t,
    key: *const c_char,
    value: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_convert_options_set", |c| {
            keys::set(KEYS, c.get_mut("options", options)?, c.text("key", key)?, c.text("value", value)?)
        })
    }
}
