"""Which nodes may work in FP16 by their schemas, and which do by their types."""

import onnx
from onnx import TensorProto
from onnx.inliner import inline_local_functions

from onnx_facts import all_graphs, all_nodes

CASTS = {"Cast", "CastLike"}  # they take FP16 whatever the model computes in


def allows_half(model):
    """Whether some operator, casts excepted, may take or give FP16 by its schema at the model's opset."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    return any(schema_allows_half(node, versions) for node in all_nodes(model) if node.op_type not in CASTS)


def schema_allows_half(node, versions):
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except (KeyError, onnx.defs.SchemaError):
        return False  # a local function; its body is looked at by itself
    return any("tensor(float16)" in constraint.allowed_type_strs for constraint in schema.type_constraints)


def consumes_half(model):
    """Whether a node other than a cast has an FP16 input, in any subgraph or local function."""
    if model.functions:
        model = inline_local_functions(model)
    model = onnx.shape_inference.infer_shapes(model)
    half = half_values(model.graph)
    return any(name in half for node in all_nodes(model) if node.op_type not in CASTS for name in node.input)


def half_values(graph):
    """Names of the FP16 values of all graphs. The names of an inner graph never meet those of an outer one."""
    names = set()
    for inner in all_graphs(graph):
        infos = [*inner.input, *inner.output, *inner.value_info]
        names.update(info.name for info in infos if element_type(info.type) == TensorProto.FLOAT16)
        names.update(tensor.name for tensor in inner.initializer if tensor.data_type == TensorProto.FLOAT16)
    return names


def element_type(value_type):
    """The element type of a tensor, of the tensors in a sequence, or of what an optional holds."""
    kind = value_type.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return element_type(getattr(value_type, kind).elem_type)
    return getattr(value_type, kind).elem_type if kind in ("tensor_type", "sparse_tensor_type") else None
