"""What a model says about its types: the facts on which the judges decide whether it really is FP16."""

from math import prod

from onnx import AttributeProto, TensorProto

WIDTH = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2}


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph):
    """The graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(model):
    for graph in all_graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        for node in function.node:
            yield node
            for inner in subgraphs(node):
                for graph in all_graphs(inner):
                    yield from graph.node


def float_bytes(model):
    """Bytes of float tensors stored in the model (initializers and Constant nodes), by element type."""
    totals = dict.fromkeys(WIDTH, 0)
    tensors = [tensor for graph in all_graphs(model.graph) for tensor in graph.initializer]
    tensors += [a.t for node in all_nodes(model) if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    for tensor in tensors:
        if tensor.data_type in WIDTH:
            totals[tensor.data_type] += WIDTH[tensor.data_type] * prod(tensor.dims)
    return totals


def half_share(model):
    """Share of the stored float bytes that are half; 1.0 for a model that stores no floats."""
    totals = float_bytes(model)
    return totals[TensorProto.FLOAT16] / (sum(totals.values()) or 1) if any(totals.values()) else 1.0


def io_types(model):
    """Element types of the graph's inputs (initializers excepted) and outputs, by name."""
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = {i.name: i.type.tensor_type.elem_type for i in model.graph.input if i.name not in weights}
    return inputs, {o.name: o.type.tensor_type.elem_type for o in model.graph.output}


def training_nodes(model):
    """Nodes in training form: Dropout that is switched on, BatchNormalization that computes its own statistics."""
    constants = {t.name: t for graph in all_graphs(model.graph) for t in graph.initializer}
    for node in all_nodes(model):
        if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute):
            yield node
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            switch = constants.get(node.input[2])
            if switch is None or any(switch.raw_data) or any(switch.int32_data):
                yield node
