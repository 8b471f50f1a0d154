//! More of a configuration: what not every version has, and timing caches.

use super::abi::{Object, call};
use super::api::DELETE;
use super::builder::{Builder, Config, Owned, Profile, Selector};
use super::lookup::Enumerator;
use super::tables::*;
use crate::{Result, bail, err};
use std::ffi::{CString, c_char, c_void};

/// How long each way of computing each layer took on a device. It must outlive the configuration that uses it.
pub struct TimingCache<'b> {
    builder: &'b Builder<'b>,
    owned: Owned,
}

impl<'b> Config<'b> {
    /// How much the engine will tell of itself: LAYER_NAMES_ONLY, NONE or DETAILED.
    pub fn set_profiling_verbosity(&mut self, name: &str) -> Result<()> {
        self.set_enumerator(Method::BuilderConfigSetProfilingVerbosity, PROFILING_VERBOSITY, name)
    }

    /// On which devices the engine will run: NONE (the one it is built on), AMPERE_PLUS, SAME_COMPUTE_CAPABILITY.
    pub fn set_hardware_compatibility(&mut self, name: &str) -> Result<()> {
        self.set_enumerator(Method::BuilderConfigSetHardwareCompatibilityLevel, HARDWARE_COMPATIBILITY_LEVEL, name)
    }

    fn set_enumerator(&mut self, method: Method, table: &[Enumerator], name: &str) -> Result<()> {
        let api = self.builder.api;
        let (slot, value) = (api.slot(method)?, api.value(table, name)?);
        // SAFETY: a live configuration; both methods take an enumerator and return nothing in every version.
        unsafe { call!(self.implementation(), slot, fn(i32), value) };
        Ok(())
    }

    /// The libraries that tactics may come from: CUBLAS, EDGE_MASK_CONVOLUTIONS; all others are left out.
    pub fn set_tactic_sources(&mut self, names: &[&str]) -> Result<()> {
        let api = self.builder.api;
        let slot = api.slot(Method::BuilderConfigSetTacticSources)?;
        let mut sources = 0u32;
        for name in names {
            sources |= 1 << api.value(TACTIC_SOURCE, name)?;
        }
        // SAFETY: a live configuration, and the method's signature in every version.
        if !unsafe { call!(self.implementation(), slot, fn(u32) -> bool, sources) } {
            bail!(InvalidArgument, "{} refuses the tactic sources {}", api.version(), names.join(", "));
        }
        Ok(())
    }

    /// The most streams beside the main one that the engine may use.
    pub fn set_aux_streams(&mut self, streams: i32) -> Result<()> {
        let slot = self.builder.api.slot(Method::BuilderConfigSetMaxAuxStreams)?;
        // SAFETY: a live configuration; what newer versions return is of no use, because values are checked before.
        unsafe { call!(self.implementation(), slot, fn(i32), streams) };
        Ok(())
    }

    /// The compute capabilities that the engine is built for: SM86, SM120, CURRENT.
    pub fn set_compute_capabilities(&mut self, names: &[&str]) -> Result<()> {
        let api = self.builder.api;
        let count = api.slot(Method::BuilderConfigSetNbComputeCapabilities)?;
        let set = api.slot(Method::BuilderConfigSetComputeCapability)?;
        let values = names.iter().map(|n| api.value(COMPUTE_CAPABILITY, n)).collect::<Result<Vec<i32>>>()?;
        let this = self.implementation();
        // SAFETY: a live configuration, and the methods' signatures in every version that has them.
        let done = unsafe {
            call!(this, count, fn(i32) -> bool, values.len() as i32)
                && values.iter().enumerate().all(|(i, v)| call!(this, set, fn(i32, i32) -> bool, *v, i as i32))
        };
        if !done {
            bail!(InvalidArgument, "{} refuses the compute capabilities {}", api.version(), names.join(", "));
        }
        Ok(())
    }

    /// A timing cache with that content; `None` if the library refuses it. An empty one from no bytes.
    pub fn timing_cache(&self, content: &[u8]) -> Result<Option<TimingCache<'b>>> {
        let slot = self.builder.api.slot(Method::BuilderConfigCreateTimingCache)?;
        let data = if content.is_empty() { std::ptr::null() } else { content.as_ptr().cast::<c_void>() };
        // SAFETY: a live configuration; the content is only read, and copied.
        let cache =
            unsafe { call!(self.implementation(), slot, fn(*const c_void, usize) -> *mut c_void, data, content.len()) };
        let owned = Object::returned(cache).map(|o| Owned::new(o, DELETE));
        Ok(owned.map(|owned| TimingCache { builder: self.builder, owned }))
    }

    /// Uses a timing cache, which builds add to. False if it was made on another device.
    pub fn set_timing_cache(&mut self, cache: &TimingCache<'b>) -> Result<bool> {
        let slot = self.builder.api.slot(Method::BuilderConfigSetTimingCache)?;
        let cache = cache.owned.object.as_ptr();
        // SAFETY: a live configuration and cache, and the method's signature in every version.
        Ok(unsafe { call!(self.implementation(), slot, fn(*const c_void, bool) -> bool, cache, false) })
    }
}

impl TimingCache<'_> {
    /// What it holds, to be written to a file.
    pub fn content(&self) -> Result<Vec<u8>> {
        let slot = self.builder.api.slot(Method::TimingCacheSerialize)?;
        // SAFETY: a live cache, and the method's signature in every version.
        let memory = unsafe { call!(self.owned.object.implementation(), slot, fn() -> *mut c_void) };
        let memory = Object::returned(memory).ok_or_else(|| {
            let what = format_args!("{} cannot serialize its timing cache", self.builder.api.version());
            self.builder.api.error(crate::ErrorCode::InvalidState, what, self.builder.logger)
        })?;
        self.builder.copy_memory(&Owned::new(memory, DELETE))
    }

    /// Adds what another one holds. False if that was made on another device.
    pub fn add(&mut self, other: &TimingCache) -> Result<bool> {
        let slot = self.builder.api.slot(Method::TimingCacheCombine)?;
        let other = other.owned.object.as_ptr();
        // SAFETY: two live caches, and the method's signature in every version.
        Ok(unsafe { call!(self.owned.object.implementation(), slot, fn(*const c_void, bool) -> bool, other, false) })
    }
}

impl Profile<'_> {
    /// Sets the values of an input that is a shape.
    pub fn set_values(&mut self, input: &str, selector: Selector, values: &[i64]) -> Result<()> {
        let api = self.api;
        let name =
            CString::new(input).map_err(|_| err!(InvalidArgument, "the input name '{input}' has a zero byte"))?;
        let which = api.value(OPT_PROFILE_SELECTOR, ["MIN", "OPT", "MAX"][selector as usize])?;
        let (this, name, count) = (self.implementation(), name.as_ptr(), values.len() as i32);
        let set = if api.has(Method::OptimizationProfileSetShapeValuesV2) {
            let slot = api.slot(Method::OptimizationProfileSetShapeValuesV2)?;
            // SAFETY: a live profile; the values are copied, and their number is given.
            unsafe {
                call!(this, slot, fn(*const c_char, i32, *const i64, i32) -> bool, name, which, values.as_ptr(), count)
            }
        } else {
            let slot = api.slot(Method::OptimizationProfileSetShapeValues)?;
            let narrow: Option<Vec<i32>> = values.iter().map(|v| i32::try_from(*v).ok()).collect();
            let Some(narrow) = narrow else {
                bail!(
                    Unsupported,
                    "{} has shapes of 32 bits, and a value of '{input}' needs more: {values:?}",
                    api.version()
                );
            };
            // SAFETY: as above.
            unsafe {
                call!(this, slot, fn(*const c_char, i32, *const i32, i32) -> bool, name, which, narrow.as_ptr(), count)
            }
        };
        if !set {
            bail!(
                InvalidArgument,
                "TensorRT refuses {values:?} as the {selector:?} values of input '{input}' in a profile"
            );
        }
        Ok(())
    }
}
