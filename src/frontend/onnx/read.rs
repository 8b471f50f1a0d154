//! `ModelProto` to [`Model`]. Nothing that is present is dropped: it has a place in the model, or is refused by name.

use super::external::Store;
use super::fields::{MAX_IR_VERSION, MAX_OPSETS};
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorAnnotation, TensorProto, TensorShapeProto, TensorShapeProtoDimensionValue, TypeProto,
    TypeProtoValue, ValueInfoProto,
};
use super::read_tensor;
use crate::hash::{HashMap, HashSet};
use crate::model::graph::norm_domain;
use crate::model::{
    Attribute, AttributeValue, DataType, Dim, DimValue, Function, Graph, Model, Name, NamedTensor, Node, OpsetId,
    Shape, SparseTensor, TypeKind, ValueInfo, ValueType,
};
use crate::{Result, bail, err};
use prost::Message;

/// Oldest operator set of ai.onnx that is read.
const MIN_OPSET: i64 = 7;

/// The model; external data comes from `store`.
pub fn read(proto: ModelProto, store: Store) -> Result<Model> {
    Reader { names: HashSet::default(), store }.model(proto)
}

struct Reader<'a> {
    /// Equal names share memory.
    names: HashSet<Name>,
    store: Store<'a>,
}

impl Reader<'_> {
    fn model(&mut self, p: ModelProto) -> Result<Model> {
        let ir_version = p.ir_version.unwrap_or(0);
        if ir_version > MAX_IR_VERSION {
            bail!(
                Unsupported,
                "the model has the IR version {ir_version}, the newest that is known is {MAX_IR_VERSION}: export it with \
                 an older ONNX version, or use a newer Mezzo"
            );
        }
        if ir_version < 1 {
            bail!(
                InvalidFile,
                "not an ONNX model, or a damaged one: it has no IR version. Give a file written by an ONNX exporter"
            );
        }
        let Some(graph) = p.graph else {
            bail!(InvalidFile, "the model has no graph: the file is incomplete, get it again");
        };
        if !p.training_info.is_empty() {
            bail!(
                Unsupported,
                "the model has training_info (a training algorithm and its state); Mezzo takes models in inference form: \
                 export it for inference, or remove that part in Python with 'del model.training_info[:]'"
            );
        }
        let opset_imports = self.opsets(p.opset_import)?;
        if opset_imports.is_empty() {
            // Before IR version 3 there were no imports, and the operators were those of opset 1.
            if ir_version >= 3 {
                bail!(InvalidModel, "the model imports no operator set: export it again, or add the import");
            }
            return Err(too_old(1, ir_version));
        }
        check_opsets(&opset_imports, "the model")?;
        Ok(Model {
            ir_version,
            opset_imports,
            producer_name: self.text(p.producer_name),
            producer_version: self.text(p.producer_version),
            domain: self.text(p.domain),
            model_version: p.model_version,
            doc_string: self.text(p.doc_string),
            metadata: self.pairs(p.metadata_props),
            graph: self.graph(*graph)?,
            functions: p.functions.into_iter().map(|f| self.function(f)).collect::<Result<_>>()?,
            device_configurations: p.configuration.iter().map(|c| c.encode_to_vec().into()).collect(),
        })
    }

    fn name(&mut self, s: &str) -> Name {
        if let Some(n) = self.names.get(s) {
            return n.clone();
        }
        let n = Name::from(s);
        self.names.insert(n.clone());
        n
    }

    fn or_empty(&mut self, s: Option<String>) -> Name {
        self.name(s.as_deref().unwrap_or(""))
    }

    fn list(&mut self, names: Vec<String>) -> Vec<Name> {
        names.iter().map(|n| self.name(n)).collect()
    }

    /// Text is rarely repeated and may be long: it is not kept among the names.
    fn text(&self, s: Option<String>) -> Option<Name> {
        s.map(Name::from)
    }

    fn pairs(&mut self, entries: Vec<StringStringEntryProto>) -> Vec<(Name, Name)> {
        entries.into_iter().map(|e| (self.or_empty(e.key), Name::from(e.value.unwrap_or_default()))).collect()
    }

    fn opsets(&mut self, imports: Vec<OperatorSetIdProto>) -> Result<Vec<OpsetId>> {
        let mut versions: HashMap<Name, i64> = HashMap::default();
        let mut out = Vec::with_capacity(imports.len());
        for o in imports {
            let id = OpsetId { domain: self.or_empty(o.domain), version: o.version.unwrap_or(0) };
            let other = versions.insert(norm_domain(&id.domain).into(), id.version);
            if let Some(other) = other.filter(|&v| v != id.version) {
                bail!(
                    InvalidModel,
                    "the operator set of domain '{}' is imported in versions {other} and {}: keep one",
                    id.domain,
                    id.version
                );
            }
            out.push(id);
        }
        Ok(out)
    }

    fn graph(&mut self, p: GraphProto) -> Result<Graph> {
        let name = self.text(p.name);
        let initializer = |i: usize, t: &TensorProto| format!("initializer '{}' (number {i})", t.name());
        Ok(Graph {
            name,
            doc_string: self.text(p.doc_string),
            metadata: self.pairs(p.metadata_props),
            nodes: p.node.into_iter().map(|n| self.node(n)).collect::<Result<_>>()?,
            inputs: self.values(p.input, "input")?,
            outputs: self.values(p.output, "output")?,
            value_info: self.values(p.value_info, "value")?,
            initializers: (p.initializer.into_iter().enumerate())
                .map(|(i, mut t)| self.tensor(&mut t).map_err(|e| e.context(initializer(i, &t))))
                .collect::<Result<_>>()?,
            sparse_initializers: (p.sparse_initializer.into_iter())
                .map(|s| self.sparse(s).map_err(|e| e.context("sparse initializer")))
                .collect::<Result<_>>()?,
            quantization: p.quantization_annotation.into_iter().map(|a| self.annotation(a)).collect(),
        })
    }

    fn annotation(&mut self, a: TensorAnnotation) -> (Name, Vec<(Name, Name)>) {
        (self.or_empty(a.tensor_name), self.pairs(a.quant_parameter_tensor_names))
    }

    fn function(&mut self, p: FunctionProto) -> Result<Function> {
        let label = format!("function '{}'", p.name());
        self.function_body(p, &label).map_err(|e| e.context(label))
    }

    fn function_body(&mut self, p: FunctionProto, label: &str) -> Result<Function> {
        let opset_imports = self.opsets(p.opset_import)?;
        check_opsets(&opset_imports, label)?;
        Ok(Function {
            name: self.or_empty(p.name),
            domain: self.or_empty(p.domain),
            overload: self.or_empty(p.overload),
            inputs: self.list(p.input),
            outputs: self.list(p.output),
            attributes: self.list(p.attribute),
            attribute_defaults: self.attributes(p.attribute_proto)?,
            nodes: p.node.into_iter().map(|n| self.node(n)).collect::<Result<_>>()?,
            opset_imports,
            value_info: self.values(p.value_info, "value")?,
            doc_string: self.text(p.doc_string),
            metadata: self.pairs(p.metadata_props),
        })
    }

    fn node(&mut self, p: NodeProto) -> Result<Node> {
        let mut node = Node {
            name: self.or_empty(p.name),
            op_type: self.or_empty(p.op_type),
            domain: self.or_empty(p.domain),
            overload: self.or_empty(p.overload),
            inputs: self.list(p.input),
            outputs: self.list(p.output),
            attributes: Vec::new(),
            doc_string: self.text(p.doc_string),
            metadata: self.pairs(p.metadata_props),
            device_configurations: p.device_configurations.iter().map(|c| c.encode_to_vec().into()).collect(),
        };
        node.attributes = self.attributes(p.attribute).map_err(|e| e.context(format_args!("node {}", node.label())))?;
        Ok(node)
    }

    fn attributes(&mut self, protos: Vec<AttributeProto>) -> Result<Vec<Attribute>> {
        let one = |mut p: AttributeProto| {
            let name = self.or_empty(p.name.take());
            let doc_string = self.text(p.doc_string.take());
            match self.attribute_value(p) {
                Ok(value) => Ok(Attribute { name, value, doc_string }),
                Err(e) => Err(e.context(format_args!("attribute '{name}'"))),
            }
        };
        protos.into_iter().map(one).collect()
    }

    fn attribute_value(&mut self, p: AttributeProto) -> Result<AttributeValue> {
        let given = given_kinds(&p);
        if let [one, other, ..] = given[..] {
            bail!(InvalidModel, "it has values of two types, {} and {}", kind_name(one), kind_name(other));
        }
        let declared = p.r#type.unwrap_or(0);
        if let Some(reference) = p.ref_attr_name.filter(|r| !r.is_empty()) {
            if let Some(&kind) = given.first() {
                bail!(InvalidModel, "it refers to the attribute '{reference}', yet has a value ({})", kind_name(kind));
            }
            return Ok(AttributeValue::Reference { attribute: self.name(&reference), kind: declared });
        }
        let kind = match (declared, given.first()) {
            (0, Some(&kind)) => kind,
            (0, None) => bail!(InvalidModel, "it has neither a type nor a value"),
            (kind, Some(&value)) if kind != value => {
                bail!(InvalidModel, "its type is {}, but its value is {}", kind_name(kind), kind_name(value))
            }
            (kind, _) => kind,
        };
        let absent = || err!(InvalidModel, "its type is {}, but it has no value", kind_name(kind));
        // Writers made from proto3 leave out numbers that are zero and strings that are empty.
        Ok(match kind {
            1 => AttributeValue::Float(p.f.unwrap_or(0.0)),
            2 => AttributeValue::Int(p.i.unwrap_or(0)),
            3 => AttributeValue::String(p.s.unwrap_or_default()),
            4 => AttributeValue::Tensor(self.tensor(&mut *p.t.ok_or_else(absent)?)?),
            5 => AttributeValue::Graph(Box::new(self.graph(*p.g.ok_or_else(absent)?)?)),
            6 => AttributeValue::Floats(p.floats),
            7 => AttributeValue::Ints(p.ints),
            8 => AttributeValue::Strings(p.strings),
            9 => {
                AttributeValue::Tensors(p.tensors.into_iter().map(|mut t| self.tensor(&mut t)).collect::<Result<_>>()?)
            }
            10 => AttributeValue::Graphs(p.graphs.into_iter().map(|g| self.graph(g)).collect::<Result<_>>()?),
            11 => AttributeValue::SparseTensor(self.sparse(*p.sparse_tensor.ok_or_else(absent)?)?),
            12 => AttributeValue::SparseTensors(
                p.sparse_tensors.into_iter().map(|s| self.sparse(s)).collect::<Result<_>>()?,
            ),
            13 => AttributeValue::Type(self.certain_type(*p.tp.ok_or_else(absent)?)?),
            14 => {
                AttributeValue::Types(p.type_protos.into_iter().map(|t| self.certain_type(t)).collect::<Result<_>>()?)
            }
            _ => bail!(Unsupported, "its type has the number {kind}, which ONNX {} does not know", super::ONNX_VERSION),
        })
    }

    fn tensor(&mut self, p: &mut TensorProto) -> Result<NamedTensor> {
        let tensor = read_tensor::read(p, &mut self.store)?;
        Ok(NamedTensor {
            name: self.name(p.name()),
            tensor,
            doc_string: self.text(p.doc_string.take()),
            metadata: self.pairs(std::mem::take(&mut p.metadata_props)),
        })
    }

    fn sparse(&mut self, p: SparseTensorProto) -> Result<SparseTensor> {
        let (Some(mut values), Some(mut indices)) = (p.values, p.indices) else {
            bail!(InvalidModel, "a sparse tensor needs values and indices");
        };
        let label = |part: &str, t: &TensorProto| format!("{part} of the sparse tensor '{}'", t.name());
        Ok(SparseTensor {
            values: self.tensor(&mut values).map_err(|e| e.context(label("values", &values)))?,
            indices: self.tensor(&mut indices).map_err(|e| e.context(label("indices", &values)))?,
            dims: p.dims,
        })
    }

    fn values(&mut self, protos: Vec<ValueInfoProto>, role: &str) -> Result<Vec<ValueInfo>> {
        let one = |p: ValueInfoProto| {
            let name = self.or_empty(p.name);
            let ty = match p.r#type {
                Some(t) => self.value_type(*t).map_err(|e| e.context(format_args!("{role} '{name}'")))?,
                None => None,
            };
            let doc_string = self.text(p.doc_string);
            Ok(ValueInfo { name, ty, doc_string, metadata: self.pairs(p.metadata_props) })
        };
        protos.into_iter().map(one).collect()
    }

    fn certain_type(&mut self, p: TypeProto) -> Result<ValueType> {
        self.value_type(p)?.ok_or_else(|| err!(InvalidModel, "it names no type"))
    }

    /// The type, or `None` where the file leaves it (or its element type) open.
    fn value_type(&mut self, p: TypeProto) -> Result<Option<ValueType>> {
        let kind = match p.value {
            None => None,
            Some(TypeProtoValue::TensorType(t)) => {
                dtype(t.elem_type)?.map(|dtype| TypeKind::Tensor { dtype, shape: self.shape(t.shape) })
            }
            Some(TypeProtoValue::SparseTensorType(t)) => {
                dtype(t.elem_type)?.map(|dtype| TypeKind::SparseTensor { dtype, shape: self.shape(t.shape) })
            }
            Some(TypeProtoValue::SequenceType(s)) => self.inner_type(s.elem_type)?.map(TypeKind::Sequence),
            Some(TypeProtoValue::OptionalType(o)) => self.inner_type(o.elem_type)?.map(TypeKind::Optional),
            Some(TypeProtoValue::MapType(m)) => match (dtype(m.key_type)?, self.inner_type(m.value_type)?) {
                (Some(key), Some(value)) => Some(TypeKind::Map(key, value)),
                _ => None,
            },
            Some(TypeProtoValue::OpaqueType(o)) => bail!(
                Unsupported,
                "its type is the opaque type '{}' of domain '{}', which only its own runtime understands",
                o.name(),
                o.domain()
            ),
        };
        let denotation = self.text(p.denotation.filter(|d| !d.is_empty()));
        match (kind, denotation) {
            (Some(kind), denotation) => Ok(Some(ValueType { kind, denotation })),
            (None, None) => Ok(None),
            (None, Some(denotation)) => {
                bail!(InvalidModel, "it has the denotation '{denotation}', but no type: give it one")
            }
        }
    }

    fn inner_type(&mut self, p: Option<Box<TypeProto>>) -> Result<Option<Box<ValueType>>> {
        match p {
            Some(t) => Ok(self.value_type(*t)?.map(Box::new)),
            None => Ok(None),
        }
    }

    fn shape(&mut self, p: Option<Box<TensorShapeProto>>) -> Option<Shape> {
        let dims = p?.dim;
        let one = |d: super::proto::TensorShapeProtoDimension| Dim {
            value: match d.value {
                // Some exporters write -1 for a size that is not known.
                Some(TensorShapeProtoDimensionValue::DimValue(n)) if n >= 0 => DimValue::Known(n),
                Some(TensorShapeProtoDimensionValue::DimParam(s)) if !s.is_empty() => DimValue::Symbol(self.name(&s)),
                _ => DimValue::Unknown,
            },
            denotation: d.denotation.map(Name::from),
        };
        Some(dims.into_iter().map(one).collect())
    }
}

fn dtype(number: Option<i32>) -> Result<Option<DataType>> {
    match number.unwrap_or(0) {
        0 => Ok(None),
        n => match DataType::from_onnx(n) {
            Some(t) => Ok(Some(t)),
            None => bail!(
                Unsupported,
                "its element type has the number {n}, which ONNX {} does not know",
                super::ONNX_VERSION
            ),
        },
    }
}

fn check_opsets(imports: &[OpsetId], owner: &str) -> Result<()> {
    for o in imports {
        let domain = norm_domain(&o.domain);
        let Some(&(_, newest)) = MAX_OPSETS.iter().find(|(d, _)| *d == domain) else { continue };
        if o.version > newest {
            let name = if domain.is_empty() { "ai.onnx" } else { domain };
            bail!(
                Unsupported,
                "{owner} imports version {} of the operator set {name}, the newest that is known is {newest}: export it \
                 with an older opset, or use a newer Mezzo",
                o.version
            );
        }
        if domain.is_empty() && o.version < MIN_OPSET {
            bail!(
                Unsupported,
                "{owner} uses opset {}, the oldest that is read is {MIN_OPSET}: convert it in Python with \
                 onnx.version_converter.convert_version(model, 13)",
                o.version
            );
        }
    }
    Ok(())
}

fn too_old(opset: i64, ir_version: i64) -> crate::Error {
    err!(
        Unsupported,
        "the model has IR version {ir_version} and no opset import, which means opset {opset}; the oldest that is read is \
         {MIN_OPSET}: export it again with a current ONNX version"
    )
}

/// The `AttributeType` of each field that has a value.
fn given_kinds(p: &AttributeProto) -> Vec<i32> {
    [
        (p.f.is_some(), 1),
        (p.i.is_some(), 2),
        (p.s.is_some(), 3),
        (p.t.is_some(), 4),
        (p.g.is_some(), 5),
        (!p.floats.is_empty(), 6),
        (!p.ints.is_empty(), 7),
        (!p.strings.is_empty(), 8),
        (!p.tensors.is_empty(), 9),
        (!p.graphs.is_empty(), 10),
        (p.sparse_tensor.is_some(), 11),
        (!p.sparse_tensors.is_empty(), 12),
        (p.tp.is_some(), 13),
        (!p.type_protos.is_empty(), 14),
    ]
    .into_iter()
    .filter_map(|(given, kind)| given.then_some(kind))
    .collect()
}

fn kind_name(kind: i32) -> &'static str {
    match kind {
        1 => "FLOAT",
        2 => "INT",
        3 => "STRING",
        4 => "TENSOR",
        5 => "GRAPH",
        6 => "FLOATS",
        7 => "INTS",
        8 => "STRINGS",
        9 => "TENSORS",
        10 => "GRAPHS",
        11 => "SPARSE_TENSOR",
        12 => "SPARSE_TENSORS",
        13 => "TYPE_PROTO",
        14 => "TYPE_PROTOS",
        _ => "of an unknown type",
    }
}
