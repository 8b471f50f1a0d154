//! Precisions and output types of layers, where TensorRT chooses types itself (up to version 9; from 10 on networks are
//! strongly typed and the model decides).

use super::abi::{Object, call, text};
use super::builder::Network;
use super::tables::{DATA_TYPE, LAYER_TYPE, Method};
use crate::{Result, bail, err};
use std::ffi::{c_char, c_void};

/// A layer with what goes in and out.
#[derive(Debug, Clone)]
pub struct TypedLayer {
    /// Its name, as the parser gave it.
    pub name: String,
    /// TensorRT's name of its kind: CONVOLUTION, IDENTITY.
    pub kind: String,
    /// Its inputs; one that is not there is left out.
    pub inputs: Vec<Edge>,
    /// Its outputs.
    pub outputs: Vec<Edge>,
}

/// A tensor of a network.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The same number is the same tensor.
    pub id: usize,
    /// Its name: that of the model's value, or one that TensorRT made.
    pub name: String,
    /// TensorRT's name of the type it has so far.
    pub dtype: String,
    /// True for a tensor whose values are a shape and which stays on the host.
    pub is_shape: bool,
}

impl Network<'_> {
    /// The layers with their tensors, in the network's order.
    pub fn typed_layers(&self) -> Result<Vec<TypedLayer>> {
        let this = self.implementation();
        self.each(this, Method::NetworkDefinitionGetNbLayers, Method::NetworkDefinitionGetLayer, |l| {
            self.typed_layer(l)
        })
    }

    fn typed_layer(&self, layer: Object) -> Result<TypedLayer> {
        let api = self.builder.api;
        let (name, kind) = (api.slot(Method::LayerGetName)?, api.slot(Method::LayerGetType)?);
        // SAFETY: a layer of a live network, and the methods' signatures in every version.
        let (this, name, kind) = unsafe {
            let this = layer.implementation();
            (this, text(call!(this, name, fn() -> *const c_char)), call!(this, kind, fn() -> i32))
        };
        let edge = |t| self.edge(t);
        let inputs = self.each(this, Method::LayerGetNbInputs, Method::LayerGetInput, edge)?;
        let outputs = self.each(this, Method::LayerGetNbOutputs, Method::LayerGetOutput, edge)?;
        Ok(TypedLayer { name, kind: api.name(LAYER_TYPE, kind), inputs, outputs })
    }

    fn edge(&self, tensor: Object) -> Result<Edge> {
        let api = self.builder.api;
        let (name, is_shape) = (api.slot(Method::TensorGetName)?, api.slot(Method::TensorIsShapeTensor)?);
        let dtype = self.dtype(tensor)?;
        // SAFETY: a tensor of a live network, and the methods' signatures in every version.
        unsafe {
            let this = tensor.implementation();
            Ok(Edge {
                id: tensor.as_ptr().addr(),
                name: text(call!(this, name, fn() -> *const c_char)),
                dtype,
                is_shape: call!(this, is_shape, fn() -> bool),
            })
        }
    }

    /// Makes a layer, named by its place, compute in a type, given by TensorRT's name of it.
    pub fn set_precision(&self, layer: usize, dtype: &str) -> Result<()> {
        let api = self.builder.api;
        let (slot, dtype) = (api.slot(Method::LayerSetPrecision)?, api.value(DATA_TYPE, dtype)?);
        let layer = self.at(Method::NetworkDefinitionGetNbLayers, Method::NetworkDefinitionGetLayer, layer)?;
        // SAFETY: a layer of this live network, and the method's signature in every version that has it.
        unsafe { call!(layer.implementation(), slot, fn(i32), dtype) };
        Ok(())
    }

    /// Gives an output of a layer, both named by their places, a type.
    pub fn set_output_type(&self, layer: usize, output: usize, dtype: &str) -> Result<()> {
        let api = self.builder.api;
        let (slot, dtype) = (api.slot(Method::LayerSetOutputType)?, api.value(DATA_TYPE, dtype)?);
        let layer = self.at(Method::NetworkDefinitionGetNbLayers, Method::NetworkDefinitionGetLayer, layer)?;
        let count = api.slot(Method::LayerGetNbOutputs)?;
        // SAFETY: a layer of this live network, and the methods' signatures in every version that has them; the output
        // is one the layer has.
        unsafe {
            let this = layer.implementation();
            let outputs = call!(this, count, fn() -> i32);
            match i32::try_from(output) {
                Ok(output) if output < outputs => call!(this, slot, fn(i32, i32), output, dtype),
                _ => bail!(Internal, "a layer has {outputs} outputs, and a type is given for output {output}"),
            }
        }
        Ok(())
    }

    /// Gives an input of the network, named by its place, a type.
    pub fn set_input_type(&self, input: usize, dtype: &str) -> Result<()> {
        let tensor = self.at(Method::NetworkDefinitionGetNbInputs, Method::NetworkDefinitionGetInput, input)?;
        self.set_type(tensor, dtype)
    }

    /// Gives an output of the network a type.
    pub fn set_boundary_output_type(&self, output: usize, dtype: &str) -> Result<()> {
        let tensor = self.at(Method::NetworkDefinitionGetNbOutputs, Method::NetworkDefinitionGetOutput, output)?;
        self.set_type(tensor, dtype)
    }

    fn set_type(&self, tensor: Object, dtype: &str) -> Result<()> {
        let api = self.builder.api;
        let (slot, dtype) = (api.slot(Method::TensorSetType)?, api.value(DATA_TYPE, dtype)?);
        // SAFETY: a tensor of this live network, and the method's signature in every version that has it.
        unsafe { call!(tensor.implementation(), slot, fn(i32), dtype) };
        Ok(())
    }

    /// The object in a place; an error if there is none.
    fn at(&self, count: Method, get: Method, index: usize) -> Result<Object> {
        let (count, get) = (self.builder.api.slot(count)?, self.builder.api.slot(get)?);
        let this = self.implementation();
        // SAFETY: a live network, whose counting methods have this signature.
        let count = unsafe { call!(this, count, fn() -> i32) };
        let place = i32::try_from(index).ok().filter(|i| *i < count);
        let object = place.and_then(|i| {
            // SAFETY: as above; the place is below the count.
            Object::returned(unsafe { call!(this, get, fn(i32) -> *mut c_void, i) })
        });
        object.ok_or_else(|| err!(Internal, "the network has {count} objects, and number {index} is asked for"))
    }
}
