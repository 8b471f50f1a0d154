//! Builder, network, configuration and profiles: every call typed once.

use super::abi::{Dims32, Dims64, Object, call, text};
use super::api::{Api, DELETE};
use super::logger::Logger;
use super::progress::{Callback, Monitor};
use super::tables::*;
use super::version::Family;
use crate::error::ErrorCode;
use crate::{Result, bail, err};
use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;

/// An object that is deleted when it is dropped.
pub(super) struct Owned {
    pub(super) object: Object,
    slot: u16,
}

impl Owned {
    pub(super) fn new(object: Object, slot: u16) -> Owned {
        Owned { object, slot }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the object is ours, and whoever made this named its destructor's slot.
        unsafe { self.object.delete(self.slot) }
    }
}

/// Builds engines.
pub struct Builder<'l> {
    pub(super) api: &'static Api,
    pub(super) logger: &'l Logger<'static>,
    owned: Owned,
}

/// A network that is still empty.
pub struct Network<'b> {
    pub(super) builder: &'b Builder<'b>,
    pub(super) owned: Owned,
    /// True if every tensor's type is what the model says, and TensorRT chooses none.
    pub strongly_typed: bool,
}

/// How a network is built.
pub struct Config<'b> {
    pub(super) builder: &'b Builder<'b>,
    owned: Owned,
    monitor: PhantomData<&'b Monitor<'b>>,
}

/// The range of shapes of every dynamic input. The builder owns it.
pub struct Profile<'b> {
    pub(super) api: &'static Api,
    object: Object,
    builder: PhantomData<&'b Builder<'b>>,
}

/// Which of a profile's shapes is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// The smallest.
    Min,
    /// The one to optimise for.
    Opt,
    /// The largest.
    Max,
}

/// An input or output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// TensorRT's name of its element type: FLOAT, HALF, INT64.
    pub dtype: String,
    /// Its sizes, -1 where one is dynamic; `None` if the rank is not known.
    pub shape: Option<Vec<i64>>,
    /// True for a tensor whose values are a shape and which stays on the host.
    pub is_shape: bool,
}

/// A layer of a network, before TensorRT optimises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its name, as the parser gave it.
    pub name: String,
    /// TensorRT's name of its kind: CONVOLUTION, CAST.
    pub kind: String,
    /// The element types of its outputs.
    pub outputs: Vec<String>,
}

impl<'l> Builder<'l> {
    /// A builder that reports to that logger.
    pub fn new(api: &'static Api, logger: &'l Logger<'static>) -> Result<Builder<'l>> {
        let object = api.create("createInferBuilder_INTERNAL", "builder", logger)?;
        Ok(Builder { api, logger, owned: Owned::new(object, DELETE) })
    }

    /// An empty network, strongly typed where the version has such networks.
    pub fn network<'b>(&'b self) -> Result<Network<'b>> {
        let flag = |name| self.api.value(NETWORK_DEFINITION_CREATION_FLAG, name).ok().map_or(0, |bit| 1u32 << bit);
        let strongly_typed = flag("STRONGLY_TYPED");
        let flags = if strongly_typed != 0 { strongly_typed } else { flag("EXPLICIT_BATCH") };
        let slot = self.api.slot(Method::BuilderCreateNetworkV2)?;
        // SAFETY: a live builder, and the method's signature in every version.
        let network = self.catching(Method::BuilderCreateNetworkV2, || unsafe {
            call!(self.implementation(), slot, fn(u32) -> *mut c_void, flags)
        })?;
        let owned = self.own(network, "a network")?;
        Ok(Network { builder: self, owned, strongly_typed: strongly_typed != 0 })
    }

    /// A configuration with the library's defaults.
    pub fn config<'b>(&'b self) -> Result<Config<'b>> {
        let slot = self.api.slot(Method::BuilderCreateBuilderConfig)?;
        // SAFETY: a live builder, and the method's signature in every version.
        let config = self.catching(Method::BuilderCreateBuilderConfig, || unsafe {
            call!(self.implementation(), slot, fn() -> *mut c_void)
        })?;
        Ok(Config { builder: self, owned: self.own(config, "a configuration")?, monitor: PhantomData })
    }

    /// An empty profile.
    pub fn profile<'b>(&'b self) -> Result<Profile<'b>> {
        let slot = self.api.slot(Method::BuilderCreateOptimizationProfile)?;
        // SAFETY: a live builder, and the method's signature in every version.
        let profile = unsafe { call!(self.implementation(), slot, fn() -> *mut c_void) };
        let object = Object::returned(profile).ok_or_else(|| self.failed("a profile"))?;
        Ok(Profile { api: self.api, object, builder: PhantomData })
    }

    /// Builds the plan of a network. `network` is the public object of a network whose parser is alive.
    pub(super) fn build(&self, network: Object, config: &Config) -> Result<Vec<u8>> {
        let slot = self.api.slot(Method::BuilderBuildSerializedNetwork)?;
        let (network, config) = (network.as_ptr(), config.owned.object.as_ptr());
        // SAFETY: a live builder, network and configuration, passed by reference as every version takes them.
        let plan = self.catching(Method::BuilderBuildSerializedNetwork, || unsafe {
            call!(self.implementation(), slot, fn(*mut c_void, *mut c_void) -> *mut c_void, network, config)
        })?;
        let plan = Object::returned(plan).ok_or_else(|| {
            self.api.error(
                ErrorCode::Unsupported,
                format_args!("{} cannot build the engine", self.api.version()),
                self.logger,
            )
        })?;
        self.copy_memory(&Owned::new(plan, DELETE))
    }

    /// The content of a block of host memory.
    pub(super) fn copy_memory(&self, memory: &Owned) -> Result<Vec<u8>> {
        let (data, size) = (self.api.slot(Method::HostMemoryData)?, self.api.slot(Method::HostMemorySize)?);
        // SAFETY: a live block of memory, and the methods' signatures in every version.
        let (data, size) = unsafe {
            let this = memory.object.implementation();
            (call!(this, data, fn() -> *const u8), call!(this, size, fn() -> usize))
        };
        if data.is_null() || size == 0 {
            return Err(self.failed("a plan of any bytes"));
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(size)
            .map_err(|_| err!(OutOfMemory, "the plan of {size} bytes does not fit in memory"))?;
        // SAFETY: the block has `size` bytes there, which nothing writes while it lives.
        copy.extend_from_slice(unsafe { std::slice::from_raw_parts(data, size) });
        Ok(copy)
    }

    fn catching<R>(&self, method: Method, f: impl FnOnce() -> R) -> Result<R> {
        self.api.catching(self.api.method_name(method), self.logger, f)
    }

    fn own(&self, object: *mut c_void, what: &str) -> Result<Owned> {
        Object::returned(object).map(|o| Owned::new(o, DELETE)).ok_or_else(|| self.failed(what))
    }

    fn failed(&self, what: &str) -> crate::Error {
        let version = self.api.version();
        self.api.error(ErrorCode::InvalidState, format_args!("{version} did not make {what}"), self.logger)
    }

    /// What methods are called on.
    fn implementation(&self) -> *mut c_void {
        // SAFETY: the builder is alive as long as this.
        unsafe { self.owned.object.implementation() }
    }
}

impl<'b> Config<'b> {
    pub(super) fn implementation(&self) -> *mut c_void {
        // SAFETY: the configuration is alive as long as this.
        unsafe { self.owned.object.implementation() }
    }

    /// Sets or clears a flag, named without its leading k.
    pub fn set_flag(&mut self, name: &str, on: bool) -> Result<()> {
        let api = self.builder.api;
        let flag = api.value(BUILDER_FLAG, name)?;
        let slot = api.slot(if on { Method::BuilderConfigSetFlag } else { Method::BuilderConfigClearFlag })?;
        // SAFETY: a live configuration; both methods take a flag and return nothing in every version.
        unsafe { call!(self.implementation(), slot, fn(i32), flag) };
        Ok(())
    }

    /// True if a flag is set.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let api = self.builder.api;
        let (flag, slot) = (api.value(BUILDER_FLAG, name)?, api.slot(Method::BuilderConfigGetFlag)?);
        // SAFETY: a live configuration, and the method's signature in every version.
        Ok(unsafe { call!(self.implementation(), slot, fn(i32) -> bool, flag) })
    }

    /// Limits the scratch memory of the engine.
    pub fn set_workspace(&mut self, bytes: usize) -> Result<()> {
        let api = self.builder.api;
        let pool = api.value(MEMORY_POOL_TYPE, "WORKSPACE")?;
        let slot = api.slot(Method::BuilderConfigSetMemoryPoolLimit)?;
        // SAFETY: a live configuration, and the method's signature in every version.
        unsafe { call!(self.implementation(), slot, fn(i32, usize), pool, bytes) };
        Ok(())
    }

    /// Sets how long the builder searches, 0 to 5.
    pub fn set_optimization_level(&mut self, level: i32) -> Result<()> {
        let slot = self.builder.api.slot(Method::BuilderConfigSetBuilderOptimizationLevel)?;
        // SAFETY: a live configuration, and the method's signature in every version.
        unsafe { call!(self.implementation(), slot, fn(i32), level) };
        Ok(())
    }

    /// Adds a profile; an error with TensorRT's reason if it is not valid.
    pub fn add_profile(&mut self, profile: &Profile<'b>) -> Result<()> {
        let slot = self.builder.api.slot(Method::BuilderConfigAddOptimizationProfile)?;
        // SAFETY: a live configuration and a profile of the same builder.
        let index = unsafe { call!(self.implementation(), slot, fn(*mut c_void) -> i32, profile.object.as_ptr()) };
        if index < 0 {
            let what = "TensorRT refuses an optimization profile";
            return Err(self.builder.api.error(ErrorCode::InvalidArgument, what, self.builder.logger));
        }
        Ok(())
    }

    /// Makes builds report to a monitor.
    pub fn set_monitor(&mut self, monitor: &'b Monitor<'b>) -> Result<()> {
        let slot = self.builder.api.slot(Method::BuilderConfigSetProgressMonitor)?;
        // SAFETY: a live configuration, and a monitor of this version's shape that outlives it.
        unsafe { call!(self.implementation(), slot, fn(*mut c_void), monitor.as_ptr()) };
        Ok(())
    }
}

impl Api {
    /// A progress monitor, if this version has them.
    pub fn monitor<'a>(&self, callback: Callback<'a>) -> Option<Monitor<'a>> {
        self.monitor_table().map(|table| Monitor::new(table, callback))
    }
}

impl Profile<'_> {
    /// Sets one of the shapes of an input.
    pub fn set_shape(&mut self, input: &str, selector: Selector, shape: &[i64]) -> Result<()> {
        let name =
            CString::new(input).map_err(|_| err!(InvalidArgument, "the input name '{input}' has a zero byte"))?;
        let dims = Dims64::new(shape)?;
        let which = ["MIN", "OPT", "MAX"][selector as usize];
        let which = self.api.value(OPT_PROFILE_SELECTOR, which)?;
        let slot = self.api.slot(Method::OptimizationProfileSetDimensions)?;
        let this = self.implementation();
        let set = if matches!(self.api.family(), Family::V8_5 | Family::V8_6) {
            // SAFETY: a live profile; up to version 9 the dimensions are passed by value.
            unsafe { call!(this, slot, fn(*const c_char, i32, Dims32) -> bool, name.as_ptr(), which, dims.narrow()?) }
        } else {
            // SAFETY: a live profile; from version 10 on they are passed by reference.
            unsafe {
                call!(this, slot, fn(*const c_char, i32, *const Dims64) -> bool, name.as_ptr(), which, &raw const dims)
            }
        };
        if !set {
            bail!(
                InvalidArgument,
                "TensorRT refuses {shape:?} as the {selector:?} shape of input '{input}' in a profile"
            );
        }
        Ok(())
    }

    /// True if min, opt and max are there and in order for every input that was set.
    pub fn is_valid(&self) -> Result<bool> {
        let slot = self.api.slot(Method::OptimizationProfileIsValid)?;
        // SAFETY: a live profile, and the method's signature in every version.
        Ok(unsafe { call!(self.implementation(), slot, fn() -> bool) })
    }

    pub(super) fn implementation(&self) -> *mut c_void {
        // SAFETY: the builder, which owns the profile, is alive as long as this.
        unsafe { self.object.implementation() }
    }
}

/// Reads networks; the parser gives them their content.
impl Network<'_> {
    pub(super) fn implementation(&self) -> *mut c_void {
        // SAFETY: the network is alive as long as this.
        unsafe { self.owned.object.implementation() }
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> Result<Vec<TensorInfo>> {
        self.each(self.implementation(), Method::NetworkDefinitionGetNbInputs, Method::NetworkDefinitionGetInput, |t| {
            self.tensor(t)
        })
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> Result<Vec<TensorInfo>> {
        self.each(
            self.implementation(),
            Method::NetworkDefinitionGetNbOutputs,
            Method::NetworkDefinitionGetOutput,
            |t| self.tensor(t),
        )
    }

    /// The layers.
    pub fn layers(&self) -> Result<Vec<LayerInfo>> {
        self.each(self.implementation(), Method::NetworkDefinitionGetNbLayers, Method::NetworkDefinitionGetLayer, |l| {
            self.layer(l)
        })
    }

    /// Calls `count` and then `get` for each index; `read` gets each object. Objects that are not there are left out.
    pub(super) fn each<T>(
        &self,
        this: *mut c_void,
        count: Method,
        get: Method,
        read: impl Fn(Object) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (count, get) = (self.builder.api.slot(count)?, self.builder.api.slot(get)?);
        // SAFETY: `this` is the implementation of a live network or layer, whose counting methods have this signature.
        let count = unsafe { call!(this, count, fn() -> i32) };
        let at = |i| {
            // SAFETY: as above; the index is below the count.
            Object::returned(unsafe { call!(this, get, fn(i32) -> *mut c_void, i) })
        };
        (0..count).filter_map(at).map(read).collect()
    }

    fn tensor(&self, tensor: Object) -> Result<TensorInfo> {
        let api = self.builder.api;
        let (name, dims) = (api.slot(Method::TensorGetName)?, api.slot(Method::TensorGetDimensions)?);
        let is_shape = api.slot(Method::TensorIsShapeTensor)?;
        // SAFETY: a tensor of a live network, and the methods' signatures in its version.
        unsafe {
            let this = tensor.implementation();
            let dims = if matches!(api.family(), Family::V8_5 | Family::V8_6) {
                call!(this, dims, fn() -> Dims32).widen()
            } else {
                call!(this, dims, fn() -> Dims64)
            };
            Ok(TensorInfo {
                name: text(call!(this, name, fn() -> *const c_char)),
                dtype: self.dtype(tensor)?,
                shape: dims.shape(),
                is_shape: call!(this, is_shape, fn() -> bool),
            })
        }
    }

    pub(super) fn dtype(&self, tensor: Object) -> Result<String> {
        let slot = self.builder.api.slot(Method::TensorGetType)?;
        // SAFETY: a tensor of a live network, and the method's signature in every version.
        let dtype = unsafe { call!(tensor.implementation(), slot, fn() -> i32) };
        Ok(self.builder.api.name(DATA_TYPE, dtype))
    }

    fn layer(&self, layer: Object) -> Result<LayerInfo> {
        let api = self.builder.api;
        let (name, kind) = (api.slot(Method::LayerGetName)?, api.slot(Method::LayerGetType)?);
        // SAFETY: a layer of a live network, and the methods' signatures in every version.
        let (this, name, kind) = unsafe {
            let this = layer.implementation();
            (this, text(call!(this, name, fn() -> *const c_char)), call!(this, kind, fn() -> i32))
        };
        let outputs = self.each(this, Method::LayerGetNbOutputs, Method::LayerGetOutput, |t| self.dtype(t))?;
        Ok(LayerInfo { name, kind: api.name(LAYER_TYPE, kind), outputs })
    }
}
