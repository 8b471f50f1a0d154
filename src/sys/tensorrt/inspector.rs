//! What an engine tells of its layers.

use super::abi::{Object, call, text};
use super::api::DELETE;
use super::builder::Owned;
use super::runtime::{ExecutionContext, PlanOnDevice};
use super::tables::*;
use crate::Result;
use std::ffi::{c_char, c_void};

impl PlanOnDevice {
    /// The engine's layers as TensorRT describes them in JSON. With a context, as they are for the shapes that it has.
    pub fn inspect(&self, context: Option<&ExecutionContext>) -> Result<String> {
        let api = self.api;
        let _entered = self.device.enter()?;
        let (create, set, get) = (
            api.slot(Method::CudaEngineCreateEngineInspector)?,
            api.slot(Method::EngineInspectorSetExecutionContext)?,
            api.slot(Method::EngineInspectorGetEngineInformation)?,
        );
        let json = api.value(LAYER_INFORMATION_FORMAT, "JSON")?;
        // SAFETY: a live engine, and the method's signature in every version.
        let inspector = Object::returned(unsafe { call!(self.this(), create, fn() -> *mut c_void) })
            .map(|o| Owned::new(o, DELETE))
            .ok_or_else(|| self.error("make an engine inspector"))?;
        // SAFETY: a live inspector.
        let this = unsafe { inspector.object.implementation() };
        if let Some(context) = context.and_then(|c| c.owned.as_ref()) {
            // SAFETY: as above; the context lives longer than the inspector, and is handed over as the public object.
            if !unsafe { call!(this, set, fn(*mut c_void) -> bool, context.object.as_ptr()) } {
                return Err(self.error("inspect the engine for the shapes of a context"));
            }
        }
        // SAFETY: as above; the string lives until the next call of the inspector and is copied.
        Ok(unsafe { text(call!(this, get, fn(i32) -> *const c_char, json)) })
    }
}
