"""Models whose every tensor is an output, so that each node can be judged by what it really read and wrote."""

import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions

from onnx_facts import all_graphs, all_nodes, subgraphs


def flat(model):
    """A copy without local functions, whose values are named v0, v1, ... in all graphs: the names serve as file names.

    Also the new names of the graph's inputs and outputs, by the old ones.
    """
    model = inline_local_functions(model) if model.functions else onnx.ModelProto.FromString(model.SerializeToString())
    names = {"": ""}

    def new(name):
        return names.setdefault(name, f"v{len(names)}")

    for graph in all_graphs(model.graph):
        rename(graph, new)
        del graph.value_info[:]
        del graph.quantization_annotation[:]
    outside = [*model.graph.input, *model.graph.output]
    old = {name: key for key, name in names.items()}
    return model, {old[info.name]: info.name for info in outside}


def rename(graph, new):
    """Names of this graph's values; the graphs inside of it are not looked at."""
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.name = new(value.name)
    for node in graph.node:
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]


def value_types(model):
    """The type of each value of the main graph, as far as inference tells."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info.type for info in [*graph.input, *graph.output, *graph.value_info]}


def exposed(model, types, kinds=("tensor_type",)):
    """A copy in which each value that a node makes and whose type is of these kinds is an output."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    have = {info.name for info in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in have and name in types and types[name].WhichOneof("value") in kinds:
                info = copy.graph.output.add(name=name)
                info.type.CopyFrom(types[name])
                if info.type.HasField("tensor_type"):
                    info.type.tensor_type.ClearField("shape")  # data may decide it
    return copy


def without_ifs(model, values):
    """A copy in which the branch taken stands in place of each If of the main graph; False if there was none.

    `values` are the values of a run of the model, by name.
    """
    if not any(node.op_type == "If" for node in model.graph.node):
        return False
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for i, node in enumerate(nodes):
        if node.op_type != "If":
            copy.graph.node.append(node)
            continue
        condition = bool({**given, **values}[node.input[0]].item())
        branch = next(a.g for a in node.attribute if a.name == ("then_branch" if condition else "else_branch"))
        inline(copy.graph, branch, node.output, f"{node.output[0]}i{i}")
    return copy


def inline(graph, branch, outputs, prefix):
    """Appends a branch's nodes, its own values under new names, for other branches may use the same ones."""
    own = {tensor.name for tensor in branch.initializer}
    own |= {name for node in branch.node for name in node.output if name}
    new = {name: f"{prefix}{name}" for name in own}
    for inner in all_graphs(branch):
        rename(inner, lambda name: new.get(name, name))
    graph.initializer.extend(branch.initializer)
    graph.node.extend(branch.node)
    # A branch may give a value of the outer graph, or one value twice.
    graph.node.extend(helper.make_node("Identity", [made.name], [name])
                      for made, name in zip(branch.output, outputs) if name)


def captured(node):
    """Names that the graphs inside a node read from around it."""
    found = set()
    for graph in subgraphs(node):
        found |= unbound(graph)
    return found


def unbound(graph):
    """Names that a graph reads and does not define."""
    defined = {value.name for value in [*graph.input, *graph.initializer]}
    defined |= {name for node in graph.node for name in node.output}
    read = {info.name for info in graph.output}
    for node in graph.node:
        read |= {name for name in node.input if name} | captured(node)
    return read - defined
