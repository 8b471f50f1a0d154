"""Models with operators in forms that newer versions of ai.onnx no longer have, with inputs: `old_forms()`."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
IR = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


def data(*shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).normal(size=shape) * 3
    return values.astype(dtype)


def element(array):
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def model(nodes, feeds, outputs, opset, *, constants=None, functions=(), imports=()):
    """`feeds`: input name to array; `outputs`: name to element type."""
    inputs = [helper.make_tensor_value_info(n, element(a), list(a.shape)) for n, a in feeds.items()]
    inits = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    if opset < 9:  # initializers of old IR versions are inputs too
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in inits]
    outs = [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()]
    graph = helper.make_graph(nodes, "old", inputs, outs, inits)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *imports], functions=list(functions))
    made.ir_version = max(IR[opset], 8 if functions else 0)
    return made


def one(op, opset, feeds, *, outputs=None, constants=None, rank=True, **attributes):
    """A model of one node. Without `rank`, nobody can tell the rank of its first input."""
    outputs = outputs or {"y": element(next(iter(feeds.values())))}
    names = [*feeds, *(constants or {})]
    nodes = [helper.make_node(op, names, list(outputs), name=f"the_{op}", **attributes)]
    if not rank:
        nodes[0].input[0] = "hidden"
        nodes.insert(0, helper.make_node("Reshape", [names[0], "shape"], ["hidden"]))
        feeds = {**feeds, "shape": np.array(feeds[names[0]].shape, np.int64)}
    made = model(nodes, feeds, outputs, opset, constants=constants)
    if not rank:
        made.graph.input[len(feeds) - 1].type.tensor_type.shape.dim[0].dim_param = "rank"
    return made, feeds


def old_forms():
    """Name, model and inputs of each."""
    for part in (clip_and_pad, slices, softmaxes, reductions, upsample_and_resize, norms, others, scans, nested, in_functions):
        yield from ((f"{part.__name__}: {name}", *rest) for name, *rest in part())


def clip_and_pad():
    x = {"x": data(2, 3, 4)}
    for name, bounds in {"both": dict(min=-1.0, max=2.0), "min": dict(min=0.0), "max": dict(max=1.5), "none": {}}.items():
        for opset in (7, 10):
            yield f"Clip {name} {opset}", *one("Clip", opset, x, **bounds)
    half = {"x": data(2, 3, dtype=np.float16)}
    yield "Clip half", *one("Clip", 7, half, min=-1.0, max=6.0)
    yield "Clip half, no bound", *one("Clip", 7, half, min=-3.4028234663852886e38, max=6.0)
    yield "Clip double", *one("Clip", 7, {"x": np.array([-1e300, 0.5, 1e300])})
    pads = [0, 1, 2, 1, 0, 1]
    for mode in ("constant", "edge", "reflect"):
        yield f"Pad {mode}", *one("Pad", 7, x, pads=pads, mode=mode, value=1.5)
    yield "Pad zero", *one("Pad", 10, x, pads=pads)
    yield "Pad negative", *one("Pad", 9, x, pads=[0, -1, 0, 0, 0, 1], value=-2.0)
    yield "Pad double", *one("Pad", 9, {"x": data(3, 2, dtype=np.float64)}, pads=[1, 0, 0, 1], value=0.1)
    for opset in (7, 10):
        yield f"Dropout {opset}", *one("Dropout", opset, x, ratio=0.3)
    nodes = [helper.make_node("Dropout", ["x"], ["y", "unread"], ratio=0.2), helper.make_node("Relu", ["y"], ["z"])]
    yield "Dropout, unread mask", model(nodes, x, {"z": FLOAT}, 7), x


def slices():
    x = {"x": data(4, 5, 6)}
    yield "Slice", *one("Slice", 7, x, starts=[1, 0], ends=[3, -1], axes=[0, 2])
    yield "Slice, no axes", *one("Slice", 9, x, starts=[1, 0, 2], ends=[1000, 3, 9223372036854775807])
    yield "TopK", *one("TopK", 7, x, outputs={"v": FLOAT, "i": INT64}, k=3, axis=1)
    yield "TopK last", *one("TopK", 9, x, outputs={"v": FLOAT, "i": INT64}, k=2)
    for opset in (7, 11, 12):
        yield f"Split {opset}", *one("Split", opset, x, outputs={"a": FLOAT, "b": FLOAT}, split=[2, 4], axis=2)
        yield f"Split equal {opset}", *one("Split", opset, x, outputs={"a": FLOAT, "b": FLOAT}, axis=0)
    yield "Split 13 equal", *one("Split", 13, x, outputs={"a": FLOAT, "b": FLOAT, "c": FLOAT}, axis=2)
    ones = {"x": data(1, 3, 1, 4)}
    for opset in (7, 11):
        yield f"Squeeze {opset}", *one("Squeeze", opset, ones, axes=[2])
        yield f"Squeeze all {opset}", *one("Squeeze", opset, ones)
        yield f"Unsqueeze {opset}", *one("Unsqueeze", opset, ones, axes=[0, 3])
    yield "Squeeze negative", *one("Squeeze", 12, ones, axes=[-2, 0])
    indices = np.array([[1, 0, 2], [0, 2, 1]], np.int64)
    updates = {"data": data(3, 3), "indices": indices, "updates": data(2, 3, seed=1)}
    yield "Scatter", *one("Scatter", 9, updates, axis=0)
    yield "Scatter 10", *one("Scatter", 10, updates)


def softmaxes():
    x = {"x": data(2, 3, 4, 5)}
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for opset in (7, 11, 12):
            for axis in (None, 0, 2, 3, *((-1, -2) if opset > 10 else ())):
                for rank in (True, False):
                    given = {} if axis is None else {"axis": axis}
                    yield f"{op} {opset} {axis} {rank}", *one(op, opset, x, rank=rank, **given)
        yield f"{op}, image", *one(op, 9, {"x": data(2, 7, 1, 1)})
        yield f"{op}, late axis", *one(op, 9, {"x": data(2, 1, 1, 6)})
        yield f"{op}, matrix", *one(op, 9, {"x": data(2, 7)}, rank=False)


def reductions():
    x = {"x": np.abs(data(2, 3, 4)) + 0.1}
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        for opset in (7, 11, 12, 13, 17):
            if op == "Sum" and opset > 12:
                continue
            for axes in (dict(axes=[1]), dict(axes=[0, 2], keepdims=0), {}, dict(keepdims=0)):
                yield f"Reduce{op} {opset} {axes}", *one(f"Reduce{op}", opset, x, **axes)
    yield "ReduceMean negative", *one("ReduceMean", 12, x, axes=[-1])
    yield "ReduceSum int", *one("ReduceSum", 11, {"x": np.arange(6, dtype=np.int64).reshape(2, 3)}, axes=[1])


def upsample_and_resize():
    x = {"x": data(1, 2, 4, 6)}
    for mode in ("nearest", "linear"):
        for scales in ([1, 1, 2, 3], [1, 1, 2.5, 1.3], [1, 1, 1, 1]):
            scales = [float(s) for s in scales]
            yield f"Upsample 7 {mode} {scales}", *one("Upsample", 7, x, mode=mode, scales=scales)
            constant = {"scales": np.array(scales, np.float32)}
            yield f"Upsample 9 {mode} {scales}", *one("Upsample", 9, x, constants=constant, mode=mode)
            fed = {**x, **constant}
            yield f"Upsample 9 {mode} {scales} at run time", *one("Upsample", 9, fed, mode=mode)
        for scales in ([1, 1, 2, 3], [1, 1, 0.6, 0.6], [1, 1, 0.5, 0.7], [1, 1, 2.5, 0.6], [1, 1, 0.4, 1.7]):
            constant = {"scales": np.array(scales, np.float32)}
            yield f"Resize 10 {mode} {scales}", *one("Resize", 10, x, constants=constant, mode=mode)
            yield f"Resize 10 {mode} {scales} at run time", *one("Resize", 10, {**x, **constant}, mode=mode)
    empty = np.zeros(0, np.float32)
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for mode in ("nearest", "linear", "cubic"):
            how = dict(mode=mode, coordinate_transformation_mode=coordinates)
            constant = {"roi": empty, "scales": np.array([1, 1, 1.5, 0.5], np.float32)}
            yield f"Resize 11 {mode} {coordinates}", *one("Resize", 11, x, constants=constant, **how)
            constant = {"roi": empty, "scales": empty, "sizes": np.array([1, 2, 7, 5], np.int64)}
            yield f"Resize 11 {mode} {coordinates} sizes", *one("Resize", 11, x, constants=constant, **how)
    how = dict(mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor")
    for scales in ([1, 1, 2, 2], [1, 1, 1.5, 0.5], [1, 1, 0.4, 3]):
        constant = {"roi": empty, "scales": np.array(scales, np.float32)}
        yield f"Resize 11 tf_half_pixel_for_nn {scales}", *one("Resize", 11, x, constants=constant, **how)
    roi = {"roi": np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 0.8], np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    yield "Resize 11 crop", *one("Resize", 11, x, constants=roi, mode="linear",
                                 coordinate_transformation_mode="tf_crop_and_resize")


def statistics(*shape):
    return {"scale": data(*shape, seed=1), "bias": data(*shape, seed=2), "mean": data(*shape, seed=3),
            "var": np.abs(data(*shape, seed=4)) + 0.5}


def norms():
    x = {"x": data(2, 3, 4, 5)}
    for opset in (7, 8, 9, 13):
        yield f"BatchNormalization {opset}", *one("BatchNormalization", opset, x, constants=statistics(3), epsilon=1e-3)
    yield "BatchNormalization spatial", *one("BatchNormalization", 7, x, constants=statistics(3), spatial=1, momentum=0.8)
    yield "BatchNormalization not spatial", *one("BatchNormalization", 7, x, constants=statistics(3, 4, 5), spatial=0)
    x = {"x": data(2, 6, 4, 5)}
    groups = {"scale": data(3, seed=1), "bias": data(3, seed=2)}
    for rank in (True, False):
        yield f"GroupNormalization {rank}", *one("GroupNormalization", 18, x, constants=groups, rank=rank, num_groups=3)
        yield f"GroupNormalization fed {rank}", *one("GroupNormalization", 18, {**x, **groups}, rank=rank, num_groups=3)


def others():
    x = {"x": data(1, 2, 9, 9)}
    regions = {"rois": np.array([[0, 0, 6, 6], [1, 2, 7, 5]], np.float32), "batch": np.zeros(2, np.int64)}
    for opset in (10, 15):
        yield f"RoiAlign {opset}", *one("RoiAlign", opset, {**x, **regions}, output_height=3, output_width=2, sampling_ratio=2)
    grid = {"grid": np.clip(data(1, 4, 5, 2), -1, 1)}
    for mode in ("bilinear", "nearest", "bicubic"):
        yield f"GridSample {mode}", *one("GridSample", 16, {**x, **grid}, mode=mode)
    yield "GridSample default", *one("GridSample", 16, {**x, **grid})
    signal = {"x": data(2, 6, 4, 1)}
    yield "DFT default", *one("DFT", 17, signal)
    for axis in (1, 2, -2):
        yield f"DFT {axis}", *one("DFT", 17, signal, axis=axis, onesided=1)
    yield "MaxPool", *one("MaxPool", 7, x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield "MaxPool ceil", *one("MaxPool", 10, x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    for include in (0, 1):
        yield f"AveragePool {include}", *one("AveragePool", 7, x, kernel_shape=[3, 3], pads=[1, 0, 1, 1], strides=[2, 2],
                                             count_include_pad=include)
        yield f"AveragePool same {include}", *one("AveragePool", 10, x, kernel_shape=[2, 2], auto_pad="SAME_UPPER",
                                                  count_include_pad=include)
    yield "AveragePool ceil", *one("AveragePool", 11, x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    yield "LpPool", *one("LpPool", 11, x, kernel_shape=[2, 2], p=2)
    yield "DepthToSpace", *one("DepthToSpace", 7, {"x": data(1, 8, 2, 3)}, blocksize=2)
    yield "SpaceToDepth", *one("SpaceToDepth", 7, {"x": data(1, 2, 4, 6)}, blocksize=2)
    yield "ArgMax", *one("ArgMax", 7, x, outputs={"y": INT64}, axis=2)
    yield "Gemm", *one("Gemm", 7, {"a": data(2, 3), "b": data(4, 3), "c": data(4)}, transB=1, alpha=0.5)
    yield "PRelu", *one("PRelu", 7, x, constants={"slope": data(2, 1, 1)})
    yield "LSTM", *one("LSTM", 7, {"x": data(5, 2, 3), "w": data(1, 16, 3), "r": data(1, 16, 4)},
                       outputs={"y": FLOAT, "h": FLOAT, "c": FLOAT}, hidden_size=4)
    yield "GRU", *one("GRU", 7, {"x": data(5, 2, 3), "w": data(1, 12, 3), "r": data(1, 12, 4)}, hidden_size=4)
    yield "Gather", *one("Gather", 7, {"x": data(3, 4), "i": np.array([2, 0], np.int64)}, axis=1)
    yield "OneHot", *one("OneHot", 9, {"i": np.array([0, 2], np.int64), "d": np.array([3], np.int64),
                                       "v": np.array([0, 1], np.float32)}, outputs={"y": FLOAT})
    yield "Cast", *one("Cast", 7, x, outputs={"y": INT64}, to=INT64)
    yield "Reshape", *one("Reshape", 7, x, constants={"s": np.array([0, -1], np.int64)})
    yield "QuantizeLinear", *one("QuantizeLinear", 10, {"x": data(3, 4)}, outputs={"y": TensorProto.UINT8},
                                 constants={"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)})
    yield "Erf", *one("Erf", 9, x)
    yield "Mod", *one("Mod", 10, {"a": data(4), "b": data(4, seed=1)}, fmod=1)
    yield "Range", *one("Range", 11, {n: np.array(v, np.float32) for n, v in dict(a=1, b=9, c=1.5).items()})
    yield "Mean", *one("Mean", 7, {"a": data(3), "b": data(3, seed=1)})


def scans():
    """A running sum, of every sample of a batch."""
    for directions in ((), (1,)):
        info = [helper.make_tensor_value_info(n, FLOAT, [3]) for n in ("sum_in", "next", "sum_out", "copy")]
        nodes = [helper.make_node("Add", ["sum_in", "next"], ["sum_out"]), helper.make_node("Identity", ["sum_out"], ["copy"])]
        body = helper.make_graph(nodes, "body", info[:2], info[2:])
        given = {"directions": list(directions)} if directions else {}
        node = helper.make_node("Scan", ["", "start", "x"], ["last", "all"], num_scan_inputs=1, body=body, **given)
        feeds = {"start": data(2, 3), "x": data(2, 5, 3, seed=1)}
        yield f"Scan 8 {directions}", model([node], feeds, {"last": FLOAT, "all": FLOAT}, 8), feeds


def chain(x, y):
    """Several old forms in a row; the names of some values are those that new constants would like to have."""
    return [
        helper.make_node("Clip", [x], ["the_axes"], name="the_min", min=-2.0, max=2.0),
        helper.make_node("Unsqueeze", ["the_axes"], ["the_axes_2"], name="the_axes", axes=[1]),
        helper.make_node("Softmax", ["the_axes_2"], ["soft"], axis=1),
        helper.make_node("ReduceSum", ["soft"], ["sum"], axes=[0], keepdims=1),
        helper.make_node("Slice", ["sum"], ["the_starts"], name="the_starts", starts=[0], ends=[2], axes=[2]),
        helper.make_node("Squeeze", ["the_starts"], [y], axes=[0, 1]),
    ]


def nested():
    x = {"x": data(3, 4, 5)}
    yield "chain", model(chain("x", "y"), x, {"y": FLOAT}, 9), x
    branches = {}
    for name, nodes in {"then_branch": chain("x", "then_y"), "else_branch": chain("other", "else_y")}.items():
        if name == "else_branch":
            nodes = [helper.make_node("Neg", ["x"], ["other"]), *nodes]
            for node in nodes:  # names are unique within a graph and its subgraphs
                node.name = node.name.replace("the_", "other_")
                node.input[:] = [n.replace("the_", "other_") for n in node.input]
                node.output[:] = [n.replace("the_", "other_") for n in node.output]
        out = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
        branches[name] = helper.make_graph(nodes, name, [], [out])
    node = helper.make_node("If", ["which"], ["y"], **branches)
    for which in (True, False):
        feeds = {"which": np.array(which), **x}
        yield f"If {which}", model([node], feeds, {"y": FLOAT}, 9), feeds
    infos = [helper.make_tensor_value_info(*v) for v in (("i", INT64, []), ("go", BOOL, []), ("state", FLOAT, [3, 4, 5]))]
    outs = [helper.make_tensor_value_info(*v) for v in (("go_on", BOOL, []), ("new", FLOAT, [3, 4, 5]))]
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["go_on"]),
                              helper.make_node("Softmax", ["state"], ["soft"], axis=1),
                              helper.make_node("Clip", ["soft"], ["new"], max=0.25)], "body", infos, outs)
    node = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    feeds = {"count": np.array(3, np.int64), **x}
    yield "Loop", model([node], feeds, {"y": FLOAT}, 10), feeds


def in_functions():
    x = {"x": data(3, 4, 5)}
    imports = [helper.make_opsetid("my", 1)]
    for opset in (8, 9):
        body = helper.make_function("my", "Chain", ["x"], ["y"], chain("x", "y"), [helper.make_opsetid("", opset)])
        nodes = [helper.make_node("Chain", ["x"], ["y"], domain="my")]
        yield f"chain {opset}", model(nodes, x, {"y": FLOAT}, opset, functions=[body], imports=imports), x
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0), helper.make_node("Clip", ["m"], ["y"])]
    for node, name, kind in ((nodes[0], "axes", 7), (nodes[1], "min", 1)):
        reference = node.attribute.add()
        reference.name, reference.ref_attr_name, reference.type = name, name, kind
    body = helper.make_function("my", "F", ["x"], ["y"], nodes, [helper.make_opsetid("", 10)], ["axes", "min"])
    call = helper.make_node("F", ["x"], ["y"], domain="my", axes=[1], min=0.1)
    yield "attributes", model([call], x, {"y": FLOAT}, 10, functions=[body], imports=imports), x
