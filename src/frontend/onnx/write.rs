//! [`Model`] to `ModelProto`'s bytes, fields in ascending order. Tensor data is always raw (strings aside), or stands
//! outside the message.

use super::wire::Writer;
use crate::Result;
use crate::hash::HashMap;
use crate::model::graph::NamedTensor;
use crate::model::tensor::SourceKey;
use crate::model::{
    Attribute, AttributeValue, DataType, Dim, DimValue, Function, Graph, Model, Name, Node, OpsetId, Shape,
    SparseTensor, Tensor, TypeKind, ValueInfo, ValueType,
};

/// Tensors whose data stands outside the message.
#[derive(Default)]
pub struct Outside {
    /// The file (or section) they are in.
    pub location: String,
    /// Offsets in it.
    pub offsets: HashMap<SourceKey, u64>,
}

/// Writes a model's fields.
pub fn model(w: &mut Writer, m: &Model, outside: &Outside) -> Result<()> {
    let e = Encoder { outside };
    w.int(1, m.ir_version)?;
    w.optional(2, m.producer_name.as_deref())?;
    w.optional(3, m.producer_version.as_deref())?;
    w.optional(4, m.domain.as_deref())?;
    if let Some(v) = m.model_version {
        w.int(5, v)?;
    }
    w.optional(6, m.doc_string.as_deref())?;
    w.message(7, |w| e.graph(w, &m.graph))?;
    m.opset_imports.iter().try_for_each(|o| opset(w, 8, o))?;
    pairs(w, 14, &m.metadata)?;
    m.functions.iter().try_for_each(|f| w.message(25, |w| e.function(w, f)))?;
    m.device_configurations.iter().try_for_each(|c| w.bytes(26, c))
}

struct Encoder<'a> {
    outside: &'a Outside,
}

impl Encoder<'_> {
    fn graph(&self, w: &mut Writer, g: &Graph) -> Result<()> {
        g.nodes.iter().try_for_each(|n| w.message(1, |w| self.node(w, n)))?;
        w.optional(2, g.name.as_deref())?;
        g.initializers.iter().try_for_each(|i| w.message(5, |w| self.tensor(w, i)))?;
        w.optional(10, g.doc_string.as_deref())?;
        g.inputs.iter().try_for_each(|v| w.message(11, |w| value_info(w, v)))?;
        g.outputs.iter().try_for_each(|v| w.message(12, |w| value_info(w, v)))?;
        g.value_info.iter().try_for_each(|v| w.message(13, |w| value_info(w, v)))?;
        for (tensor, parameters) in &g.quantization {
            w.message(14, |w| {
                w.bytes(1, tensor.as_bytes())?;
                pairs(w, 2, parameters)
            })?;
        }
        g.sparse_initializers.iter().try_for_each(|s| w.message(15, |w| self.sparse(w, s)))?;
        pairs(w, 16, &g.metadata)
    }

    fn node(&self, w: &mut Writer, n: &Node) -> Result<()> {
        n.inputs.iter().try_for_each(|i| w.bytes(1, i.as_bytes()))?;
        n.outputs.iter().try_for_each(|o| w.bytes(2, o.as_bytes()))?;
        w.non_empty(3, &n.name)?;
        w.bytes(4, n.op_type.as_bytes())?;
        n.attributes.iter().try_for_each(|a| w.message(5, |w| self.attribute(w, a)))?;
        w.optional(6, n.doc_string.as_deref())?;
        w.non_empty(7, &n.domain)?;
        w.non_empty(8, &n.overload)?;
        pairs(w, 9, &n.metadata)?;
        n.device_configurations.iter().try_for_each(|c| w.bytes(10, c))
    }

    fn attribute(&self, w: &mut Writer, a: &Attribute) -> Result<()> {
        use AttributeValue::*;
        w.bytes(1, a.name.as_bytes())?;
        match &a.value {
            Float(v) => w.float(2, *v)?,
            Int(v) => w.int(3, *v)?,
            String(v) => w.bytes(4, v)?,
            Tensor(t) => w.message(5, |w| self.tensor(w, t))?,
            Graph(g) => w.message(6, |w| self.graph(w, g))?,
            Floats(v) => v.iter().try_for_each(|v| w.float(7, *v))?,
            Ints(v) => v.iter().try_for_each(|v| w.int(8, *v))?,
            Strings(v) => v.iter().try_for_each(|v| w.bytes(9, v))?,
            Tensors(v) => v.iter().try_for_each(|t| w.message(10, |w| self.tensor(w, t)))?,
            Graphs(v) => v.iter().try_for_each(|g| w.message(11, |w| self.graph(w, g)))?,
            _ => {}
        }
        w.optional(13, a.doc_string.as_deref())?;
        match &a.value {
            Type(t) => w.message(14, |w| value_type(w, t))?,
            Types(v) => v.iter().try_for_each(|t| w.message(15, |w| value_type(w, t)))?,
            _ => {}
        }
        if a.value.kind() != 0 {
            w.int(20, a.value.kind().into())?;
        }
        match &a.value {
            Reference { attribute, .. } => w.bytes(21, attribute.as_bytes()),
            SparseTensor(s) => w.message(22, |w| self.sparse(w, s)),
            SparseTensors(v) => v.iter().try_for_each(|s| w.message(23, |w| self.sparse(w, s))),
            _ => Ok(()),
        }
    }

    fn tensor(&self, w: &mut Writer, t: &NamedTensor) -> Result<()> {
        let tensor = &t.tensor;
        let outside = self.offset(tensor);
        tensor.dims().iter().try_for_each(|d| w.int(1, *d))?;
        w.int(2, tensor.dtype().to_onnx().into())?;
        if let Some(strings) = tensor.strings() {
            strings.iter().try_for_each(|s| w.bytes(6, s))?;
        }
        w.non_empty(8, &t.name)?;
        if tensor.dtype() != DataType::String && outside.is_none() {
            w.tensor_bytes(9, tensor)?;
        }
        w.optional(12, t.doc_string.as_deref())?;
        if let Some(offset) = outside {
            pair(w, 13, "location", &self.outside.location)?;
            pair(w, 13, "offset", &offset.to_string())?;
            pair(w, 13, "length", &tensor.byte_len().to_string())?;
            w.int(14, 1)?;
        }
        pairs(w, 16, &t.metadata)
    }

    fn offset(&self, tensor: &Tensor) -> Option<u64> {
        self.outside.offsets.get(&tensor.source_key()?).copied()
    }

    fn sparse(&self, w: &mut Writer, s: &SparseTensor) -> Result<()> {
        w.message(1, |w| self.tensor(w, &s.values))?;
        w.message(2, |w| self.tensor(w, &s.indices))?;
        s.dims.iter().try_for_each(|d| w.int(3, *d))
    }

    fn function(&self, w: &mut Writer, f: &Function) -> Result<()> {
        w.bytes(1, f.name.as_bytes())?;
        f.inputs.iter().try_for_each(|i| w.bytes(4, i.as_bytes()))?;
        f.outputs.iter().try_for_each(|o| w.bytes(5, o.as_bytes()))?;
        f.attributes.iter().try_for_each(|a| w.bytes(6, a.as_bytes()))?;
        f.nodes.iter().try_for_each(|n| w.message(7, |w| self.node(w, n)))?;
        w.optional(8, f.doc_string.as_deref())?;
        f.opset_imports.iter().try_for_each(|o| opset(w, 9, o))?;
        w.bytes(10, f.domain.as_bytes())?;
        f.attribute_defaults.iter().try_for_each(|a| w.message(11, |w| self.attribute(w, a)))?;
        f.value_info.iter().try_for_each(|v| w.message(12, |w| value_info(w, v)))?;
        w.non_empty(13, &f.overload)?;
        pairs(w, 14, &f.metadata)
    }
}

fn opset(w: &mut Writer, field: u32, o: &OpsetId) -> Result<()> {
    w.message(field, |w| {
        w.bytes(1, o.domain.as_bytes())?;
        w.int(2, o.version)
    })
}

fn pair(w: &mut Writer, field: u32, key: &str, value: &str) -> Result<()> {
    w.message(field, |w| {
        w.bytes(1, key.as_bytes())?;
        w.bytes(2, value.as_bytes())
    })
}

fn pairs(w: &mut Writer, field: u32, pairs: &[(Name, Name)]) -> Result<()> {
    pairs.iter().try_for_each(|(key, value)| pair(w, field, key, value))
}

fn value_info(w: &mut Writer, v: &ValueInfo) -> Result<()> {
    w.bytes(1, v.name.as_bytes())?;
    if let Some(ty) = &v.ty {
        w.message(2, |w| value_type(w, ty))?;
    }
    w.optional(3, v.doc_string.as_deref())?;
    pairs(w, 4, &v.metadata)
}

fn value_type(w: &mut Writer, t: &ValueType) -> Result<()> {
    let denotation = |w: &mut Writer| w.optional(6, t.denotation.as_deref());
    match &t.kind {
        TypeKind::Tensor { dtype, shape } => w.message(1, |w| tensor_type(w, *dtype, shape.as_ref()))?,
        TypeKind::Sequence(inner) => w.message(4, |w| w.message(1, |w| value_type(w, inner)))?,
        TypeKind::Map(key, value) => w.message(5, |w| {
            w.int(1, key.to_onnx().into())?;
            w.message(2, |w| value_type(w, value))
        })?,
        TypeKind::SparseTensor { dtype, shape } => {
            denotation(w)?;
            return w.message(8, |w| tensor_type(w, *dtype, shape.as_ref()));
        }
        TypeKind::Optional(inner) => {
            denotation(w)?;
            return w.message(9, |w| w.message(1, |w| value_type(w, inner)));
        }
    }
    denotation(w)
}

fn tensor_type(w: &mut Writer, dtype: DataType, shape: Option<&Shape>) -> Result<()> {
    w.int(1, dtype.to_onnx().into())?;
    match shape {
        Some(shape) => w.message(2, |w| shape.iter().try_for_each(|d| w.message(1, |w| dimension(w, d)))),
        None => Ok(()),
    }
}

fn dimension(w: &mut Writer, d: &Dim) -> Result<()> {
    match &d.value {
        DimValue::Known(n) => w.int(1, *n)?,
        DimValue::Symbol(s) => w.bytes(2, s.as_bytes())?,
        DimValue::Unknown => {}
    }
    w.optional(3, d.denotation.as_deref())
}
