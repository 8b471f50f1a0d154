"""Structured changes of ONNX models, of which most still load: what soak_models.py feeds to Mezzo."""

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from mutations_nesting import Nesting, names_of

INTS = [-1, 0, 1, 2, 3, 5, -2, -7, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -1.0, 1e-30, 1e30, -1e30, float("inf"), float("-inf"), float("nan"), 0.5, 65504.0, 1e308]
STRINGS = [b"", b"x", b"linear", b"cubic", b"nearest", b"SAME_UPPER", b"VALID", b"reflect", b"wrap", b"edge",
           b"\xff\xfe",
           b"LINEAR", b"TF", b"max", b"add", b"ab,bc->ac", b"...->...", b"ii", b"(a+)+$", b"NOTSET", b"reverse",
           b"bidirectional", b"half_pixel", b"align_corners", b"tf_crop_and_resize"]
NAMES = ["axis", "axes", "pads", "strides", "dilations", "kernel_shape", "group", "keepdims", "perm", "to", "mode",
         "alpha", "epsilon", "blocksize", "auto_pad", "ceil_mode", "direction", "hidden_size", "num_outputs",
         "output_padding", "output_shape", "transA", "transB", "value", "k", "largest", "exclusive", "reverse", "batch_dims", "allowzero",
         "block_size", "layout", "storage_order", "count_include_pad", "sampling_ratio", "output_height", "onesided",
         "equation", "q_num_heads", "kv_num_heads", "num_heads", "is_causal", "size", "bias", "stash_type", "saturate"]
TYPES = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT64,
         TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL, TensorProto.STRING,
         TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.UINT64, TensorProto.INT16, TensorProto.COMPLEX64]
DIMS = [0, 1, 2, 3, 4, 7, 2**31, 2**62, "n", "m", None]
MAX_ELEMENTS = 1 << 16


def graphs_of(graph):
    """A graph and all that are nested in it."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                found += graphs_of(attribute.g)
            for g in attribute.graphs:
                found += graphs_of(g)
    return found


class Mutator(Nesting):
    """Changes one model. `data` holds arrays for its inputs, of which some become constants."""

    def __init__(self, rng, model, data):
        self.rng, self.model, self.data, self.count = rng, model, data, 0
        self.done = []

    def mutate(self, times):
        for _ in range(times):
            change = self.rng.choice(CHANGES)
            self.graph = self.rng.choice(graphs_of(self.model.graph))
            try:
                change(self)
            except (ValueError, TypeError, IndexError, AttributeError, OverflowError, KeyError) as e:
                # The change did not fit this model: it stays as far as it went.
                self.done.append(f"({change.__name__}: {type(e).__name__})")
                continue
            self.done.append(change.__name__)

    def fresh(self):
        self.count += 1
        return f"mutated_{self.count}"

    def node(self):
        return self.rng.choice(self.graph.node)

    def int(self, near=None):
        if near is not None and self.rng.random() < 0.4:
            return max(-(2**63), min(2**63 - 1, near + self.rng.choice([-2, -1, 1, 2, near])))
        return self.rng.choice(INTS)

    # Attributes

    def change_attribute(self):
        attribute = self.rng.choice([a for n in self.graph.node for a in n.attribute])
        kind = attribute.type
        if kind == AttributeProto.INT:
            attribute.i = self.int(attribute.i)
        elif kind == AttributeProto.FLOAT:
            attribute.f = self.rng.choice(FLOATS[:-1])
        elif kind == AttributeProto.STRING:
            attribute.s = self.rng.choice([*STRINGS, attribute.s.lower(), attribute.s.upper(), attribute.s[::-1]])
        elif kind == AttributeProto.INTS:
            self.change_list(attribute.ints, self.int)
        elif kind == AttributeProto.FLOATS:
            self.change_list(attribute.floats, lambda _=None: self.rng.choice(FLOATS[:-1]))
        elif kind == AttributeProto.STRINGS:
            self.change_list(attribute.strings, lambda _=None: self.rng.choice(STRINGS))
        elif kind == AttributeProto.TENSOR:
            self.change_tensor(attribute.t)

    def change_list(self, items, new):
        what = self.rng.randrange(5)
        if what == 0 and items:
            del items[self.rng.randrange(len(items))]
        elif what == 1:
            items.append(new())
        elif what == 2:
            del items[:]
        elif what == 3 and items:
            items[:] = self.rng.sample(list(items), len(items))
        elif items:
            i = self.rng.randrange(len(items))
            items[i] = new(items[i])

    def drop_attribute(self):
        node = self.rng.choice([n for n in self.graph.node if n.attribute])
        del node.attribute[self.rng.randrange(len(node.attribute))]

    def repeat_attribute(self):
        node = self.rng.choice([n for n in self.graph.node if n.attribute])
        other = self.node()
        other.attribute.append(self.rng.choice(node.attribute))

    def add_attribute(self):
        node, name = self.node(), self.rng.choice(NAMES)
        for i in reversed(range(len(node.attribute))):
            if node.attribute[i].name == name:
                del node.attribute[i]
        value = self.rng.choice([self.int(), [self.int() for _ in range(self.rng.randrange(1, 5))],
                                 self.rng.choice(FLOATS[:-1]), self.rng.choice(STRINGS), self.rng.randrange(4)])
        node.attribute.append(helper.make_attribute(name, value))

    # Nodes

    def swap_inputs(self):
        node = self.rng.choice([n for n in self.graph.node if len(n.input) > 1])
        node.input[:] = self.rng.sample(list(node.input), len(node.input))

    def drop_input(self):
        node = self.rng.choice([n for n in self.graph.node if n.input])
        if self.rng.random() < 0.5:
            node.input[self.rng.randrange(len(node.input))] = ""
        else:
            del node.input[self.rng.randrange(len(node.input))]

    def repeat_input(self):
        node = self.rng.choice([n for n in self.graph.node if n.input])
        node.input.append(self.rng.choice([*node.input, ""]))

    def replace_input(self):
        index = self.rng.randrange(len(self.graph.node))
        node = self.graph.node[index]
        known = [v.name for v in self.graph.input] + [i.name for i in self.graph.initializer]
        known += [o for n in self.graph.node[:index] for o in n.output if o]
        node.input[self.rng.randrange(len(node.input))] = self.rng.choice(known)

    def change_outputs(self):
        node = self.rng.choice([n for n in self.graph.node if n.output])
        what = self.rng.randrange(3)
        if what == 0:
            node.output.append(self.fresh())
        elif what == 1:
            node.output[:] = self.rng.sample(list(node.output), len(node.output))
        else:
            node.output[self.rng.randrange(len(node.output))] = self.fresh()

    def remove_node(self):
        index = self.rng.randrange(len(self.graph.node))
        node = self.graph.node[index]
        del self.graph.node[index]
        # What it made is taken from what it read, so that the graph stays whole.
        known = [*node.input, *(i.name for i in self.graph.input), ""]
        for old in node.output:
            self.rename_reads(old, next((i for i in known if i), ""))

    def rename_reads(self, old, new):
        for graph in graphs_of(self.graph):
            for node in graph.node:
                node.input[:] = [new if name == old else name for name in node.input]
        for output in self.graph.output:
            if output.name == old and old:
                self.graph.node.append(helper.make_node("Identity", [new], [old]))

    def repeat_node(self):
        node = onnx.NodeProto()
        node.CopyFrom(self.node())
        # It reads what the first one made.
        made = [o for o in node.output if o]
        node.output[:] = [self.fresh() if o else "" for o in node.output]
        if self.rng.random() < 0.7:
            node.input[self.rng.randrange(len(node.input))] = self.rng.choice(made)
        self.graph.node.append(node)
        self.show(self.rng.choice([o for o in node.output if o]))

    def reorder_nodes(self):
        nodes = list(self.graph.node)
        i, j = self.rng.randrange(len(nodes)), self.rng.randrange(len(nodes))
        nodes[i], nodes[j] = nodes[j], nodes[i]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def change_op(self):
        self.node().op_type = self.rng.choice(OPS)

    def add_node(self):
        names = names_of(self.graph)
        op, inputs = self.rng.choice(OPS), [self.rng.choice([*names, ""]) for _ in range(self.rng.randrange(1, 4))]
        inputs[0] = self.rng.choice(names)
        made = self.fresh()
        self.graph.node.append(helper.make_node(op, inputs, [made]))
        self.show(made)

    def show(self, name):
        """Makes a value of the main graph an output."""
        if self.graph is self.model.graph or self.graph == self.model.graph:
            self.model.graph.output.append(onnx.ValueInfoProto(name=name))

    def rewire_output(self):
        output = self.rng.choice(self.graph.output)
        what = self.rng.randrange(3)
        if what == 0:
            output.name = self.rng.choice(names_of(self.graph))
        elif what == 1:
            output.ClearField("type")
        else:
            output.type.CopyFrom(helper.make_tensor_type_proto(self.rng.choice(TYPES), None))

    def change_opset(self):
        self.rng.choice(self.model.opset_import).version = self.rng.randrange(7, 29)

    # Constants and inputs

    def freeze_input(self):
        graph = self.model.graph
        given = [i for i, v in enumerate(graph.input) if isinstance(self.data.get(v.name), TensorProto)]
        index = self.rng.choice(given)
        tensor = TensorProto()
        tensor.CopyFrom(self.data[graph.input[index].name])
        tensor.name = graph.input[index].name
        del graph.input[index]
        graph.initializer.append(tensor)
        if self.rng.random() < 0.5:
            self.change_tensor(graph.initializer[-1])

    def change_initializer(self):
        self.change_tensor(self.rng.choice(self.graph.initializer))

    def change_tensor(self, tensor):
        what = self.rng.randrange(4)
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.STRING or what == 0:
            self.change_shape(tensor, values)
            return
        if what == 1:
            kind = self.rng.choice([t for t in TYPES if t != TensorProto.STRING])
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            changed = helper.make_tensor(name, kind, values.shape, values.astype(dtype).reshape(-1))
        else:
            values = values.copy()
            flat = values.reshape(-1)
            for _ in range(self.rng.randrange(1, 4)):
                i = self.rng.randrange(len(flat))
                if values.dtype.kind in "iu":
                    low, high = (-(2**63), 2**63 - 1) if values.dtype.itemsize == 8 else (-(2**31), 2**31 - 1)
                    number = min(max(self.int(int(flat[i])), low), high)
                    flat[i] = number if values.dtype.itemsize >= 4 and number >= 0 else number % 128
                    if values.dtype.kind == "i" and values.dtype.itemsize >= 4:
                        flat[i] = number
                else:
                    flat[i] = self.rng.choice(FLOATS)
            changed = numpy_helper.from_array(values.reshape(values.shape), name)
        tensor.CopyFrom(changed)

    def change_shape(self, tensor, values):
        dims = list(tensor.dims)
        if self.rng.random() < 0.6 or tensor.data_type == TensorProto.STRING:
            # As many elements.
            choices = [[values.size], [1] + dims, dims + [1], dims[::-1], [d for d in dims if d != 1], [values.size, 1]]
            tensor.dims[:] = self.rng.choice(choices)
            return
        changed = [self.rng.choice([0, 1, 2, 3, d + 1]) if self.rng.random() < 0.5 else d for d in dims]
        if self.rng.random() < 0.2:
            changed.append(2)
        size = 1
        for d in changed:
            size *= d
        if size > MAX_ELEMENTS:
            return
        tensor.CopyFrom(numpy_helper.from_array(np.resize(values, changed).astype(values.dtype), tensor.name))

    def change_input_shape(self):
        info = self.rng.choice(self.graph.input)
        if info.type.WhichOneof("value") != "tensor_type":
            return
        kind = info.type.tensor_type
        dims = [d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in kind.shape.dim]
        what = self.rng.randrange(4)
        if what == 0 and dims:
            dims[self.rng.randrange(len(dims))] = self.rng.choice(DIMS)
        elif what == 1:
            dims.append(self.rng.choice(DIMS[:5]))
        elif what == 2 and dims:
            del dims[self.rng.randrange(len(dims))]
        else:
            dims = [self.rng.choice("nmk") for _ in dims]
        info.type.CopyFrom(helper.make_tensor_type_proto(kind.elem_type, dims))

    # Changes of all inputs at once, which fit each other more often

    def plain_inputs(self):
        graph = self.model.graph
        given = {i.name for i in graph.initializer}
        return [i.type.tensor_type for i in graph.input if i.name not in given and i.type.HasField("tensor_type")]

    def change_size(self):
        """One size becomes another wherever an input has it."""
        sizes = [d for t in self.plain_inputs() for d in t.shape.dim if d.HasField("dim_value")]
        old, new = self.rng.choice(sizes).dim_value, self.rng.choice([0, 0, 1, 2, 5, 17, 2**31, "n"])
        for d in sizes:
            if d.dim_value == old:
                d.Clear()
                if new == "n":
                    d.dim_param = new
                else:
                    d.dim_value = new
        self.forget_shapes()

    def change_all_types(self):
        kinds = [t.elem_type for t in self.plain_inputs()]
        old, new = self.rng.choice(kinds), self.rng.choice(TYPES)
        for t in self.plain_inputs():
            if t.elem_type == old:
                t.elem_type = new
        self.forget_shapes()

    def change_rank(self):
        for t in self.plain_inputs():
            dims = [onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString()) for d in t.shape.dim]
            if self.rng.random() < 0.5:
                dims.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
            else:
                del dims[:1]
            del t.shape.dim[:]
            t.shape.dim.extend(dims)
        self.forget_shapes()

    def forget_shapes(self):
        """What the model says of other values would contradict the change."""
        del self.model.graph.value_info[:]
        for output in self.model.graph.output:
            output.ClearField("type")

    def change_input_type(self):
        info = self.rng.choice(self.graph.input)
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.elem_type = self.rng.choice(TYPES)

    def change_value_type(self):
        info = self.rng.choice([*self.graph.value_info, *self.graph.output])
        shape = self.rng.choice([None, [2], ["n", 0]])
        info.type.CopyFrom(helper.make_tensor_type_proto(self.rng.choice(TYPES), shape))


# The likelier ones several times.
CHANGES = [
    *5 * [Mutator.change_attribute],
    *3 * [Mutator.change_size, Mutator.change_all_types, Mutator.change_initializer, Mutator.freeze_input,
          Mutator.add_attribute, Mutator.change_input_shape],
    *2 * [Mutator.drop_attribute, Mutator.swap_inputs, Mutator.drop_input, Mutator.change_input_type,
          Mutator.change_opset, Mutator.replace_input],
    Mutator.repeat_attribute, Mutator.repeat_input, Mutator.change_outputs, Mutator.remove_node, Mutator.repeat_node,
    Mutator.change_rank, Mutator.reorder_nodes, Mutator.change_op, Mutator.add_node, Mutator.rewire_output,
    Mutator.change_value_type, Mutator.nest_in_if, Mutator.nest_in_loop,
]
OPS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
