//! How models are loaded and saved.

use super::boundary::call;
use super::callback::{caller_bytes, mezzo_release_callback_t};
use super::error::mezzo_error_t;
use super::handle::{free_owned, handle, owned};
use super::keys::{self, Key};
use crate::frontend::onnx::{External, MapMode, SaveExternal};
use crate::frontend::{LoadOptions, torch};
use crate::hash::HashMap;
use bytes::Bytes;
use std::ffi::{c_char, c_void};
use std::path::PathBuf;

/// When files are memory-mapped instead of read, one of mezzo_map_e.
///
/// A mapped file must not be changed in place while a model or anything made from it lives: if it shrinks, the
/// operating system kills the process. To replace it by renaming another file over it is safe.
pub type mezzo_map_t = i32;

/// Values of mezzo_map_t.
#[repr(C)]
pub enum mezzo_map_e {
    /// Files above 64 MB are mapped.
    MEZZO_MAP_AUTO = 0,
    /// Files are always mapped.
    MEZZO_MAP_ALWAYS = 1,
    /// Files are never mapped.
    MEZZO_MAP_NEVER = 2,
}

/// Where weights go when a model is saved, one of mezzo_external_e.
pub type mezzo_external_t = i32;

/// Values of mezzo_external_t.
#[repr(C)]
pub enum mezzo_external_e {
    /// Inside the file, unless it would have more than the 2 GB that the format allows.
    MEZZO_EXTERNAL_AUTO = 0,
    /// In a file of their own beside it, named like it with ".data" added.
    MEZZO_EXTERNAL_ALWAYS = 1,
    /// Inside the file; an error above 2 GB.
    MEZZO_EXTERNAL_NEVER = 2,
}

/// How a model is loaded. Exclusive: one thread at a time.
pub struct mezzo_load_options_t {
    _opaque: [u8; 0],
}

/// How a model is saved. Exclusive: one thread at a time.
pub struct mezzo_save_options_t {
    _opaque: [u8; 0],
}

#[derive(Default)]
pub(super) struct LoadBody {
    map: MapMode,
    torch: torch::Options,
    folder: Option<PathBuf>,
    external: HashMap<String, Bytes>,
}

#[derive(Default)]
pub(super) struct SaveBody {
    pub(super) external: SaveExternal,
}

handle!(mezzo_load_options_t, LoadBody, "a load options", b"ldop");
handle!(mezzo_save_options_t, SaveBody, "a save options", b"svop");

impl LoadBody {
    pub(super) fn options(&self) -> LoadOptions {
        LoadOptions { map: self.map, torch: self.torch.clone() }
    }

    /// Where a model loaded from memory finds its external data.
    pub(super) fn external(&self) -> External<'_> {
        match &self.folder {
            _ if !self.external.is_empty() => External::Memory(&self.external),
            Some(folder) => External::Folder(folder),
            None => External::None,
        }
    }
}

fn map_of(text: &str) -> Option<MapMode> {
    match text {
        "auto" => Some(MapMode::Auto),
        "always" => Some(MapMode::Always),
        "never" => Some(MapMode::Never),
        _ => None,
    }
}

fn external_of(text: &str) -> Option<SaveExternal> {
    match text {
        "auto" => Some(SaveExternal::Auto),
        "always" => Some(SaveExternal::Always),
        "never" => Some(SaveExternal::Never),
        _ => None,
    }
}

const LOAD_KEYS: &[Key<LoadBody>] = &[
    Key {
        name: "map",
        values: "auto, always or never",
        set: |o, v| {
            o.map = map_of(v)?;
            Some(())
        },
    },
    Key {
        name: "input-shape",
        values: "NAME=1x3x224x224:fp32",
        set: |o, v| {
            o.torch.inputs.push(torch::InputSpec::parse(v).ok()?);
            Some(())
        },
    },
    Key {
        name: "force-eval",
        values: "true or false",
        set: |o, v| {
            o.torch.force_eval = v.parse().ok()?;
            Some(())
        },
    },
];

const SAVE_KEYS: &[Key<SaveBody>] = &[Key {
    name: "external",
    values: "auto, always or never",
    set: |o, v| {
        o.external = external_of(v)?;
        Some(())
    },
}];

/// New options with the defaults. Free them with mezzo_load_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_load_options_new() -> *mut mezzo_load_options_t {
    owned(LoadBody::default())
}

/// Frees options. NULL is allowed. Models loaded with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_free(options: *mut mezzo_load_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets when files are mapped; MEZZO_MAP_AUTO by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `map` is none of MEZZO_MAP_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_set_map(
    options: *mut mezzo_load_options_t,
    map: mezzo_map_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_load_options_set_map", |c| {
            let options = c.get_mut("options", options)?;
            options.map = match map {
                0 => MapMode::Auto,
                1 => MapMode::Always,
                2 => MapMode::Never,
                _ => return Err(c.invalid("map", format_args!("is {map}, which is none of MEZZO_MAP_*"))),
            };
            Ok(())
        })
    }
}

/// Adds external data for mezzo_model_load_memory().
///
/// location: the file name that the model gives for it; given twice, the later one counts.
/// data, size: the content of that file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the options, the model and everything made from it are gone; not if this call fails.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_add_external(
    options: *mut mezzo_load_options_t,
    location: *const c_char,
    data: *const c_void,
    size: usize,
    release: mezzo_release_callback_t,
    user: *mut c_void,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_load_options_add_external", |c| {
            let options = c.get_mut("options", options)?;
            let location = c.text("location", location)?.to_string();
            let (bytes, loan) = caller_bytes(c, data, size, release, user)?;
            options.external.insert(location, bytes);
            loan.accept();
            Ok(())
        })
    }
}

/// Sets the folder where mezzo_model_load_memory() looks for external data; used if none is added from memory. (A model
/// loaded from a file has its external data beside the file.) Paths that climb out of the folder are refused.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_set_external_folder(
    options: *mut mezzo_load_options_t,
    path: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_load_options_set_external_folder", |c| {
            let options = c.get_mut("options", options)?;
            options.folder = Some(c.path("path", path)?.to_path_buf());
            Ok(())
        })
    }
}

/// Adds the shape and type of an input of a TorchScript archive, which does not know them itself.
///
/// input: NAME=SHAPE:TYPE, as in "x=1x3x224x224:fp32". NAME is a parameter of forward(), its position from 0, or left away
///   with the = for the next one; parts of lists, tuples and dicts are NAME.0 and NAME.key. Words in SHAPE are dynamic
///   dimensions ("batchx3x224x224"). A number or text that forward() takes is NAME=VALUE and becomes part of the model.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_add_input(
    options: *mut mezzo_load_options_t,
    input: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_load_options_add_input", |c| {
            let options = c.get_mut("options", options)?;
            options.torch.inputs.push(torch::InputSpec::parse(c.text("input", input)?)?);
            Ok(())
        })
    }
}

/// Sets an option by name: map (auto, always, never), input-shape (as mezzo_load_options_add_input()), force-eval (true
/// turns off the training mode that a TorchScript trace has baked in, instead of refusing it).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_load_options_set(
    options: *mut mezzo_load_options_t,
    key: *const c_char,
    value: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_load_options_set", |c| {
            keys::set(LOAD_KEYS, c.get_mut("options", options)?, c.text("key", key)?, c.text("value", value)?)
        })
    }
}

/// New options with the defaults. Free them with mezzo_save_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn mezzo_save_options_new() -> *mut mezzo_save_options_t {
    owned(SaveBody::default())
}

/// Frees options. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_save_options_free(options: *mut mezzo_save_options_t) {
    // SAFETY: the header's contract.
    unsafe { free_owned(options) }
}

/// Sets where weights go; MEZZO_EXTERNAL_AUTO by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `external` is none of MEZZO_EXTERNAL_*.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_save_options_set_external(
    options: *mut mezzo_save_options_t,
    external: mezzo_external_t,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_save_options_set_external", |c| {
            let options = c.get_mut("options", options)?;
            options.external = match external {
                0 => SaveExternal::Auto,
                1 => SaveExternal::Always,
                2 => SaveExternal::Never,
                _ => {
                    return Err(c.invalid("external", format_args!("is {external}, which is none of MEZZO_EXTERNAL_*")));
                }
            };
            Ok(())
        })
    }
}

/// Sets an option by name: external (auto, always, never).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mezzo_save_options_set(
    options: *mut mezzo_save_options_t,
    key: *const c_char,
    value: *const c_char,
) -> *mut mezzo_error_t {
    // SAFETY: the header's contract.
    unsafe {
        call("mezzo_save_options_set", |c| {
            keys::set(SAVE_KEYS, c.get_mut("options", options)?, c.text("key", key)?, c.text("value", value)?)
        })
    }
}
