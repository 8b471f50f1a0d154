"""FP32 twins of FP16 models: what "compute in FP32, round every tensor to half" means, in terms of ONNX itself.

In a twin every FP16 value is FP32. In a rounded twin each such value also goes through a Cast to half and back where a
node makes it, in subgraphs too; local functions are inlined. ONNX Runtime runs twins with its optimisations off: with
them it takes the two Casts for nothing and removes them. `prove_rounding` shows that they round.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from onnx_facts import all_graphs
from verdicts import Failure

# Attributes that name an element type.
TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype"}
WIDEN = TensorProto.FLOAT16, TensorProto.FLOAT
NARROW = TensorProto.FLOAT, TensorProto.FLOAT16


def run_unoptimised(model, inputs):
    """Outputs by name, from ONNX Runtime on one thread, node by node as the model has them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def prove_rounding():
    """1 + 2^-12 is 1 and 65519 is 65504 as halves: a runtime that drops the Casts, or rounds otherwise, shows."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [3]) for name in ("a", "b", "sum")]
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    again = helper.make_node("Sub", ["sum", "a"], ["rest"])
    rest = helper.make_tensor_value_info("rest", TensorProto.FLOAT16, [3])
    graph = helper.make_graph([node, again], "g", infos[:2], [infos[2], rest])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    inputs = {"a": np.array([1, 1, 65504], np.float32), "b": np.array([2**-12, 3 * 2**-11, 15], np.float32)}
    got = run_unoptimised(rounded_twin(model), inputs)
    if got["sum"].tolist() != [1, 1 + 2**-9, 65504] or got["rest"].tolist() != [0, 2**-9, 0]:
        raise Failure(f"ONNX Runtime does not round between the nodes of a twin: {got}")
    return "ONNX Runtime rounds between the nodes of a twin"


def widened_array(value):
    """A half array as FP32, also inside of lists; anything else as it is."""
    if isinstance(value, (list, tuple)):
        return [widened_array(item) for item in value]
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value


def rounded_twin(model):
    twin = onnx.shape_inference.infer_shapes(inline_local_functions(model) if model.functions else model)
    half = half_tensors(twin)
    for graph in all_graphs(twin.graph):
        retype_graph(graph, *WIDEN)
        round_outputs(graph, half)
    return twin


def half_tensors(model):
    """Names of the FP16 tensors of all graphs; sequences of tensors are made of tensors that were rounded before."""
    infos = [info for graph in all_graphs(model.graph) for info in [*graph.input, *graph.output, *graph.value_info]]
    return {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT16}


def retype_graph(graph, old, new):
    """Element type `new` in place of `old` in this graph; the graphs inside of it are not looked at."""
    del graph.value_info[:]  # inferred again by who needs it
    for info in [*graph.input, *graph.output]:
        retype(info.type, old, new)
    for tensor in graph.initializer:
        retype_tensor(tensor, old, new)
    for node in graph.node:
        retype_attributes(node, old, new)


def retype(value_type, old, new):
    kind = value_type.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        retype(getattr(value_type, kind).elem_type, old, new)
    elif kind == "tensor_type" and value_type.tensor_type.elem_type == old:
        value_type.tensor_type.elem_type = new


def retype_tensor(tensor, old, new):
    if tensor.data_type == old:
        with np.errstate(over="ignore"):
            array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(new))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def retype_attributes(node, old, new):
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            retype_tensor(attribute.t, old, new)
        elif attribute.name in TYPE_ATTRIBUTES and attribute.i == old and node.op_type != "BitCast":
            attribute.i = new
        elif attribute.type == AttributeProto.TYPE_PROTO:
            retype(attribute.tp, old, new)


def round_outputs(graph, half):
    """Puts Casts to half and back behind every node output whose name is in `half`."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        pairs = []
        for i, name in enumerate(node.output):
            if name in half:
                node.output[i], stored = f"{name}/wide", f"{name}/half"
                pairs += [helper.make_node("Cast", [node.output[i]], [stored], to=TensorProto.FLOAT16),
                          helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT)]
        graph.node.extend([node, *pairs])
