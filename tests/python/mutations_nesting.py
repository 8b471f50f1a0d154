"""Mutations that put a whole model into an If or a Loop: one half of mutations.py's Mutator."""

import onnx
from onnx import TensorProto, helper


def names_of(graph):
    """Names that nodes of the graph may read."""
    given = [v.name for v in graph.input] + [i.name for i in graph.initializer]
    return given + [o for n in graph.node for o in n.output if o]


class Nesting:
    """Control flow around everything."""

    def body(self, name, inputs, first):
        """The main graph's nodes as a body that reads everything else from outside; its outputs after `first`."""
        graph = self.model.graph
        body = helper.make_graph(list(graph.node), name, inputs, first)
        for output in graph.output:
            body.output.append(onnx.ValueInfoProto(name=output.name))
        return body

    def outside(self, node, outer):
        graph = self.model.graph
        names = {o.name: n for o, n in zip(graph.output, outer)}
        del graph.node[:]
        graph.node.append(node)
        for output in graph.output:
            output.name = names[output.name]
            output.ClearField("type")
        del graph.value_info[:]

    def constant(self, name, kind, values, dims=()):
        self.model.graph.initializer.append(helper.make_tensor(name, kind, dims, values))
        return name

    def nest_in_if(self):
        graph = self.model.graph
        outer = [self.fresh() for _ in graph.output]
        condition = self.constant(self.fresh(), TensorProto.BOOL, [self.rng.random() < 0.5])
        then, other = self.body("then", [], []), self.body("else", [], [])
        if self.rng.random() < 0.3:
            del other.output[self.rng.randrange(len(other.output))]
        self.outside(helper.make_node("If", [condition], outer, then_branch=then, else_branch=other), outer)

    def nest_in_loop(self):
        graph = self.model.graph
        outer = [self.fresh() for _ in graph.output]
        trips = self.rng.choice([-1, 0, 1, 2, 3, 5, 17, 1000, 10**6, 2**31, 2**63 - 1])
        count = self.constant(self.fresh(), TensorProto.INT64, [trips])
        number, go, going = self.fresh(), self.fresh(), self.fresh()
        inputs = [helper.make_tensor_value_info(number, TensorProto.INT64, []),
                  helper.make_tensor_value_info(go, TensorProto.BOOL, [])]
        nodes = [helper.make_node("Identity", [go], [going])]
        if self.rng.random() < 0.5:
            limit = self.fresh()
            nodes = [helper.make_node("Constant", [], [limit], value=helper.make_tensor("", TensorProto.INT64, [],
                                                                                        [self.rng.randrange(5)])),
                     helper.make_node("Less", [number, limit], [going])]
        carried, start = [], []
        if self.rng.random() < 0.5:
            # A value that grows with every round.
            grows = self.rng.choice(["Optional", "Unsqueeze0", "Concat", "Tile", "Add", "SequenceInsert", "Exp"])
            inside, next_ = self.fresh(), self.fresh()
            first = self.rng.choice(names_of(graph))
            inputs.append(onnx.ValueInfoProto(name=inside))
            nodes += self.growth(grows, inside, next_)
            carried, start = [onnx.ValueInfoProto(name=next_)], [first]
            if grows == "SequenceInsert":
                start = [self.fresh()]
        body = self.body("body", inputs, [helper.make_tensor_value_info(going, TensorProto.BOOL, []), *carried])
        body.node.extend(nodes)
        made = [self.fresh() for _ in carried]
        loop = helper.make_node("Loop", [count, "", *start], [*made, *outer], body=body)
        self.outside(loop, outer)
        if start and start[0].startswith("mutated_") and start[0] not in names_of(graph):
            graph.node.insert(0, helper.make_node("SequenceEmpty", [], start))
        for name in made:
            graph.output.append(onnx.ValueInfoProto(name=name))

    def growth(self, kind, inside, made):
        if kind == "Unsqueeze0":
            zero = self.fresh()
            return [helper.make_node("Constant", [], [zero], value=helper.make_tensor("", TensorProto.INT64, [1], [0])),
                    helper.make_node("Unsqueeze", [inside, zero], [made])]
        if kind == "Concat":
            return [helper.make_node("Concat", [inside, inside], [made], axis=0)]
        if kind == "SequenceInsert":
            return [helper.make_node("SequenceInsert", [inside, self.model.graph.input[0].name], [made])]
        if kind == "Tile":
            shape, two = self.fresh(), self.fresh()
            return [helper.make_node("Shape", [inside], [shape]), helper.make_node("Add", [shape, shape], [two]),
                    helper.make_node("Tile", [inside, two], [made])]
        return [helper.make_node(kind, [inside, inside] if kind == "Add" else [inside], [made])]
