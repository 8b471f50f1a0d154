//! Fused steps on the CPU backend: an execution with fused operators gives what the operators one by one give, bit for
//! bit, in FP32 and in FP16. A tap makes the engine run them one by one.

mod onnx_builder;
mod random_models;

use mezzo::backend::{BuildOptions, Progress, RunControl, TensorValue, Value};
use mezzo::engine::{Context, Engine, Env};
use mezzo::model::{AttributeValue, DataType, Dim, Graph, Initializer, Model, Node, Tensor, ValueInfo, ValueType};
use mezzo::precision::{ConvertOptions, convert};
use onnx_builder::{half, model, node, with};
use random_models::Random;
use std::sync::Arc;

/// [2, 8, 9, 17] after a head of 8 channels.
const DIMS: [usize; 4] = [2, 8, 9, 17];

const UNARY: [&str; 12] = [
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "HardSwish",
    "HardSigmoid",
    "Tanh",
    "Erf",
    "Abs",
    "Neg",
    "Softplus",
    "Floor",
    "Softsign",
];
const BINARY: [&str; 6] = ["Add", "Sub", "Mul", "Max", "Min", "PRelu"];
/// Operands from outside, by the shape they have: a scalar, one value a channel, a row, a column, one an image, the whole.
const OUTSIDE: [&str; 6] = ["scalar", "channel", "row", "column", "image", "whole"];
/// Those of them that rows take as they are.
const OF_ROWS: [&str; 3] = ["scalar", "row", "whole"];
/// Rows of lengths below, at and above a vector's. About 1024 elements go together and about 2048 make a task: of each, tasks
/// end with rows that are fewer than go together, behind others.
const ROWS: [[usize; 4]; 5] = [[2, 8, 211, 1], [2, 8, 70, 3], [2, 8, 13, 17], [2, 1, 5, 341], [2, 2, 2, 400]];

fn numbers(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| (random.below(2001) as f32 - 1000.0) / 700.0).collect()
}

/// Constants for OUTSIDE.
fn outside(random: &mut Random, dims: [usize; 4]) -> Vec<Initializer> {
    let [images, channels, height, width] = dims.map(|d| d as i64);
    let shapes: [&[i64]; 6] =
        [&[], &[channels, 1, 1], &[width], &[height, 1], &[images, 1, 1, 1], &[images, channels, height, width]];
    OUTSIDE.iter().zip(shapes).map(|(name, shape)| constant(random, name, shape)).collect()
}

fn constant(random: &mut Random, name: &str, dims: &[i64]) -> Initializer {
    let n = dims.iter().product::<i64>() as usize;
    let tensor = Tensor::from_vec(DataType::Float32, dims.to_vec(), numbers(random, n));
    Initializer { name: name.into(), tensor, doc_string: None, metadata: vec![] }
}

/// The head that a seed chooses, and constants for it. Its result is "v0".
fn head(random: &mut Random, kind: usize) -> (Node, Vec<Initializer>) {
    let ints = |v: &[i64]| AttributeValue::Ints(v.to_vec());
    match kind {
        // 3x3 and 8 channels in, 16 would be Winograd's: a product over columns.
        0 => {
            let conv = with(node("Conv", &["x", "w", "b"], &["v0"]), "pads", ints(&[1, 1, 1, 1]));
            (conv, vec![constant(random, "w", &[8, 8, 3, 3]), constant(random, "b", &[8])])
        }
        1 => (node("Conv", &["x", "w"], &["v0"]), vec![constant(random, "w", &[8, 8, 1, 1])]),
        2 => {
            let conv = with(node("Conv", &["x", "w"], &["v0"]), "pads", ints(&[1, 1, 1, 1]));
            (with(conv, "group", AttributeValue::Int(8)), vec![constant(random, "w", &[8, 1, 3, 3])])
        }
        3 => (node("MatMul", &["x", "w"], &["v0"]), vec![constant(random, "w", &[17, 17])]),
        // No head: a chain.
        _ => (node("Add", &["row", "x"], &["v0"]), vec![]),
    }
}

fn fused_model(seed: u64) -> Model {
    let mut random = Random(seed);
    let kind = random.below(5);
    let (first, mut initializers) = head(&mut random, kind);
    initializers.extend(outside(&mut random, DIMS));
    for name in ["scale", "shift", "mean"] {
        initializers.push(constant(&mut random, name, &[8]));
    }
    let variance = numbers(&mut random, 8).iter().map(|v| v.abs() + 0.5).collect();
    let variance = Tensor::from_vec(DataType::Float32, vec![8], variance);
    initializers.push(Initializer { name: "variance".into(), tensor: variance, doc_string: None, metadata: vec![] });
    let mut nodes = vec![first];
    let count = 1 + random.below(9);
    for i in 1..=count {
        // Mostly the value before, sometimes an older one, which must then be kept.
        let before = |random: &mut Random| match random.below(4) {
            0 => format!("v{}", random.below(i)),
            _ => format!("v{}", i - 1),
        };
        let (a, out) = (before(&mut random), format!("v{i}"));
        nodes.push(match random.below(5) {
            0 | 1 => node(random.one_of::<&str>(&UNARY), &[&a], &[&out]),
            2 => node("BatchNormalization", &[&a, "scale", "shift", "mean", "variance"], &[&out]),
            _ => {
                let op = *random.one_of::<&str>(&BINARY);
                let b = if random.below(3) == 0 { before(&mut random) } else { random.one_of(&OUTSIDE).to_string() };
                // The slope of PRelu is never the larger side; the others are given either way round.
                match op != "PRelu" && random.below(2) == 0 {
                    true => node(op, &[&b, &a], &[&out]),
                    false => node(op, &[&a, &b], &[&out]),
                }
            }
        });
    }
    nodes.push(node("Identity", &[&format!("v{count}")], &["y"]));
    of_dims(model(nodes, initializers), DIMS)
}

fn of_dims(made: Model, dims: [usize; 4]) -> Model {
    let info = |name: &str| {
        let dims = Some(dims.iter().map(|&d| Dim::known(d as i64)).collect());
        ValueInfo::new(name, ValueType::tensor(DataType::Float32, dims))
    };
    Model { graph: Graph { inputs: vec![info("x")], outputs: vec![info("y")], ..made.graph }, ..made }
}

fn bfloat(model: &Model) -> Model {
    let options = ConvertOptions { precision: DataType::Bfloat16, ..ConvertOptions::default() };
    convert(model, &options).unwrap().model
}

fn bytes(context: &mut Context, control: &RunControl) -> Vec<u8> {
    context.run(control).unwrap();
    let Value::Tensor(t) = context.output("y").unwrap() else { panic!("an output is a tensor") };
    t.to_bytes().unwrap()
}

/// Runs both plans; says how many steps the fused one has less.
fn same(seed: u64, model: &Model, input: &[f32], threads: usize) -> usize {
    same_of(seed, model, DIMS, input, threads)
}

fn same_of(seed: u64, model: &Model, dims: [usize; 4], input: &[f32], threads: usize) -> usize {
    let env = Env::default_env();
    let options = BuildOptions { threads, ..BuildOptions::default() };
    let engine: Arc<Engine> = Engine::build(&env, model, "cpu", &options, &Progress::default()).unwrap();
    let mut context = Context::new(&engine).unwrap();
    let input: Vec<u8> = input.iter().flat_map(|v| v.to_le_bytes()).collect();
    let input = TensorValue::copy_of(DataType::Float32, dims.to_vec(), &input).unwrap();
    let wanted = engine.info().inputs[0].data_type().unwrap();
    let input = input.to_float(wanted).unwrap();
    context.bind("x", Value::Tensor(input)).unwrap();
    let fused = bytes(&mut context, &RunControl::default());
    let alone = bytes(&mut context, &RunControl { tap: Some(&|_, _| {}), ..RunControl::default() });
    assert!(fused == alone, "seed {seed}, {dims:?}: {}", engine.inspect_json());
    let described = engine.inspect_json();
    // Images that are turned are steps beside the model's own.
    let steps = described.matches("\"op\"").count() - described.matches("\"Reorder\"").count();
    engine.info().nodes as usize - steps
}

#[test]
fn fused_steps_give_what_their_operators_give() {
    let (mut fewer, mut runs) = (0, 0);
    for seed in 0..150 {
        let model = fused_model(seed);
        let input = numbers(&mut Random(seed + 1000), DIMS.iter().product());
        for threads in [1, 3] {
            fewer += same(seed, &model, &input, threads);
            fewer += same(seed, &half(&model).model, &input, threads);
            runs += 2;
        }
    }
    assert!(fewer > runs, "only {fewer} operators were fused in {runs} models");
}

/// Images stay turned from one convolution to the next, through pools, Concat and transposes: the same bits as in the
/// plan that keeps the model's own order, and none is turned in between.
#[test]
fn turned_images_give_what_planes_give() {
    let mut random = Random(7);
    let ints = |v: &[i64]| AttributeValue::Ints(v.to_vec());
    let pooled = |op: &str, x: &str, y: &str| {
        let pool = with(node(op, &[x], &[y]), "kernel_shape", ints(&[3, 3]));
        with(with(pool, "pads", ints(&[1, 1, 1, 1])), "strides", ints(&[2, 2]))
    };
    let transposed = |x: &str, y: &str, perm: &[i64]| with(node("Transpose", &[x], &[y]), "perm", ints(perm));
    let nodes = vec![
        with(node("Conv", &["x", "w"], &["c"]), "pads", ints(&[1, 1, 1, 1])),
        node("PRelu", &["c", "channel"], &["r"]),
        pooled("MaxPool", "r", "most"),
        pooled("AveragePool", "r", "mean"),
        with(node("Concat", &["most", "mean"], &["both"]), "axis", AttributeValue::Int(1)),
        transposed("both", "last", &[0, 2, 3, 1]),
        node("MatMul", &["last", "m"], &["product"]),
        transposed("product", "first", &[0, 3, 1, 2]),
        node("Add", &["first", "both"], &["sum"]),
        node("Conv", &["sum", "v"], &["d"]),
        node("GlobalAveragePool", &["d"], &["g"]),
        node("Mul", &["d", "g"], &["y"]),
    ];
    let shapes: [(&str, &[i64]); 4] =
        [("w", &[8, 8, 3, 3]), ("channel", &[8, 1, 1]), ("m", &[16, 16]), ("v", &[8, 16, 1, 1])];
    let initializers = shapes.iter().map(|(name, dims)| constant(&mut random, name, dims)).collect();
    let made = model(nodes, initializers);
    let info = |name: &str, dims: [usize; 4]| {
        let dims = Some(dims.iter().map(|&d| Dim::known(d as i64)).collect());
        ValueInfo::new(name, ValueType::tensor(DataType::Float32, dims))
    };
    let (inputs, outputs) = (vec![info("x", DIMS)], vec![info("y", [2, 8, 5, 9])]);
    let made = Model { graph: Graph { inputs, outputs, ..made.graph }, ..made };
    let input = numbers(&mut random, DIMS.iter().product());
    for threads in [1, 3] {
        for model in [made.clone(), half(&made).model] {
            same(7, &model, &input, threads);
        }
    }
    let options = BuildOptions::default();
    let engine = Engine::build(&Env::default_env(), &made, "cpu", &options, &Progress::default()).unwrap();
    let described = engine.inspect_json();
    assert_eq!(described.matches("\"Reorder\"").count(), 2, "the input and the output alone: {described}");
    assert_eq!(described.matches("\"Transpose\"").count(), 0, "{described}");
}

/// Reductions along rows and what is around them, in a random order: the values so far, these operands, and casts to this
/// type and back.
fn rows_model(seed: u64, dims: [usize; 4], operands: &[&str], small: DataType) -> Model {
    let mut random = Random(seed);
    let reduced = |op: &str, x: &str, y: &str, axis: i64| {
        // With the axes as an attribute, as before opset 18.
        with(node(op, &[x], &[y]), "axes", AttributeValue::Ints(vec![axis]))
    };
    const REDUCTIONS: [&str; 4] = ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"];
    let first = *random.one_of::<&str>(&REDUCTIONS);
    // Some reduce another dimension, and must be taken one by one.
    let axis = if random.below(8) == 0 { 1 } else { *random.one_of::<i64>(&[-1, 3]) };
    let mut nodes = vec![reduced(first, "x", "v0", axis)];
    let count = 3 + random.below(9);
    for i in 1..=count {
        let any = |random: &mut Random| match random.below(4) {
            0 => "x".to_string(),
            1 => format!("v{}", random.below(i)),
            _ => format!("v{}", i - 1),
        };
        let (a, out) = (any(&mut random), format!("v{i}"));
        let next = match random.below(9) {
            0 => node(random.one_of::<&str>(&UNARY), &[&a], &[&out]),
            1 => reduced(random.one_of::<&str>(&REDUCTIONS), &a, &out, -1),
            2 => {
                let soft = node(random.one_of::<&str>(&["Softmax", "LogSoftmax"]), &[&a], &[&out]);
                with(soft, "axis", AttributeValue::Int(*random.one_of::<i64>(&[-1, -1, 3, 1])))
            }
            3 => {
                let (half, to) = (format!("h{i}"), |t: DataType| AttributeValue::Int(t as i64));
                nodes.push(with(node("Cast", &[&a], &[&half]), "to", to(small)));
                with(node("Cast", &[&half], &[&out]), "to", to(DataType::Float32))
            }
            _ => {
                let op = *random.one_of::<&str>(&["Add", "Sub", "Mul", "Max", "Div"]);
                let b = if random.below(2) == 0 { any(&mut random) } else { random.one_of(operands).to_string() };
                match random.below(2) == 0 {
                    true => node(op, &[&b, &a], &[&out]),
                    false => node(op, &[&a, &b], &[&out]),
                }
            }
        };
        nodes.push(next);
    }
    // All of them are needed, so that none is left out.
    nodes.push(node("Add", &["x", &format!("v{count}")], &["y"]));
    of_dims(model(nodes, outside(&mut random, dims)), dims)
}

#[test]
fn rows_give_what_their_operators_give() {
    let mut fewer = 0;
    for seed in 0..150 {
        let model = rows_model(seed, DIMS, &OUTSIDE, DataType::Float16);
        let input = numbers(&mut Random(seed + 2000), DIMS.iter().product());
        for threads in [1, 3] {
            fewer += same(seed, &model, &input, threads);
            fewer += same(seed, &half(&model).model, &input, threads);
        }
    }
    assert!(fewer > 600, "only {fewer} operators were fused");
}

/// In FP32, FP16 and BF16; every second model has casts to BF16 and back.
#[test]
fn rows_of_every_length_give_what_their_operators_give() {
    for dims in ROWS {
        let mut fewer = 0;
        for seed in 0..20 {
            let small = if seed % 2 == 0 { DataType::Bfloat16 } else { DataType::Float16 };
            let model = rows_model(seed, dims, &OF_ROWS, small);
            let input = numbers(&mut Random(seed + 3000), dims.iter().product());
            // A cast from one of the small types to the other is no step of rows.
            let small = if seed % 2 == 0 { bfloat(&model) } else { half(&model).model };
            for threads in [1, 3] {
                fewer += same_of(seed, &model, dims, &input, threads);
                fewer += same_of(seed, &small, dims, &input, threads);
            }
        }
        assert!(fewer > 80, "only {fewer} operators were fused over {dims:?}");
    }
}

/// No rows, and rows without elements.
#[test]
fn empty_rows_give_what_their_operators_give() {
    for dims in [[2, 0, 9, 17], [2, 8, 9, 0]] {
        for made in [layer_normalisation(dims), masked_softmax(dims)] {
            for model in [half(&made).model, bfloat(&made), made] {
                same_of(9, &model, dims, &[], 1);
            }
        }
    }
}

/// What a step of the engine is called, in the order of the plan.
fn operators(model: &Model) -> Vec<String> {
    let options = BuildOptions::default();
    let engine = Engine::build(&Env::default_env(), model, "cpu", &options, &Progress::default()).unwrap();
    let described: serde_json::Value = serde_json::from_str(&engine.inspect_json()).unwrap();
    let steps = described["steps"].as_array().unwrap();
    steps.iter().map(|s| s["op"].as_str().unwrap().to_string()).collect()
}

fn initializer(name: &str, dims: &[i64], v: Vec<f32>) -> Initializer {
    let tensor = Tensor::from_vec(DataType::Float32, dims.to_vec(), v);
    Initializer { name: name.into(), tensor, doc_string: None, metadata: vec![] }
}

fn layer_normalisation(dims: [usize; 4]) -> Model {
    let mean = |x: &str, y: &str| with(node("ReduceMean", &[x], &[y]), "axes", AttributeValue::Ints(vec![-1]));
    let nodes = vec![
        mean("x", "mean"),
        node("Sub", &["x", "mean"], &["d"]),
        node("Pow", &["d", "two"], &["square"]),
        mean("square", "variance"),
        node("Add", &["variance", "epsilon"], &["more"]),
        node("Sqrt", &["more"], &["deviation"]),
        node("Div", &["d", "deviation"], &["quotient"]),
        node("Mul", &["quotient", "row"], &["scaled"]),
        node("Add", &["scaled", "row"], &["y"]),
    ];
    let row = constant(&mut Random(3), "row", &[dims[3] as i64]);
    let constants = vec![initializer("two", &[], vec![2.0]), initializer("epsilon", &[], vec![1e-5]), row];
    of_dims(model(nodes, constants), dims)
}

/// A layer normalisation that is spelled out is one step, also over rows of other lengths; those that are longer than 16384
/// go through its operators one by one.
#[test]
fn a_layer_normalisation_in_nine_operators_is_one_step() {
    let longest = [[1, 1, 3, 16384], [1, 1, 3, 16385]];
    for dims in ROWS.into_iter().chain(longest) {
        let made = layer_normalisation(dims);
        assert_eq!(operators(&made), ["ReduceMean+Sub+Pow+ReduceMean+Add+Sqrt+Div+Mul+Add"]);
        // An FP16 model keeps the mean of squares in FP32: its casts are parts of the step.
        let halved = half(&made).model;
        assert_eq!(operators(&halved), ["Cast+ReduceMean+Sub+Pow+ReduceMean+Add+Sqrt+Div+Cast+Mul+Add"]);
        let bfloat = bfloat(&made);
        let input = numbers(&mut Random(5), dims.iter().product());
        for threads in [1, 3] {
            assert_eq!(same_of(5, &made, dims, &input, threads), 8);
            assert_eq!(same_of(5, &halved, dims, &input, threads), 10);
            assert!(same_of(5, &bfloat, dims, &input, threads) >= 8);
        }
    }
}

fn masked_softmax(dims: [usize; 4]) -> Model {
    let nodes = vec![
        node("Mul", &["x", "scale"], &["scaled"]),
        node("Relu", &["scaled"], &["scores"]),
        node("Add", &["scores", "mask"], &["masked"]),
        node("Softmax", &["masked"], &["weights"]),
        node("Neg", &["weights"], &["y"]),
    ];
    let mut mask = vec![0.0f32; dims[3]];
    mask[dims[3] * 2 / 3..].fill(-1e9);
    let constants = vec![initializer("mask", &[dims[3] as i64], mask), initializer("scale", &[1], vec![0.3])];
    of_dims(model(nodes, constants), dims)
}

/// A mask that FP16 cannot hold keeps the softmax in FP32: casts, mask and softmax are one step, whatever a row's length.
#[test]
fn a_masked_softmax_between_halves_is_one_step() {
    for dims in ROWS {
        let made = masked_softmax(dims);
        let halved = half(&made).model;
        let steps = operators(&halved);
        assert!(steps.iter().any(|s| s.starts_with("Cast+Add+Softmax+Cast")), "{steps:?}");
        let input = numbers(&mut Random(8), dims.iter().product());
        for threads in [1, 3] {
            for model in [&made, &halved, &bfloat(&made)] {
                same_of(8, model, dims, &input, threads);
            }
        }
    }
}

/// Bytes of activations at their peak.
fn activations(model: &Model) -> u64 {
    let engine =
        Engine::build(&Env::default_env(), model, "cpu", &BuildOptions::default(), &Progress::default()).unwrap();
    engine.activation_bytes().unwrap()
}

/// A mask of rows that is the same for all heads goes along rows too: no FP32 tensor of the scores is made.
#[test]
fn a_mask_may_repeat_for_all_heads() {
    let dims = [2, 8, 37, 41];
    let mut made = masked_softmax(dims);
    let mask = (0..37 * 41).map(|i| if i % 41 > i / 41 { -1e9 } else { 0.0 }).collect();
    made.graph.initializers.retain(|i| &*i.name != "mask");
    made.graph.initializers.push(initializer("mask", &[1, 1, 37, 41], mask));
    let halved = half(&made).model;
    let input = numbers(&mut Random(8), dims.iter().product());
    for threads in [1, 3] {
        for model in [&made, &halved, &bfloat(&made)] {
            same_of(8, model, dims, &input, threads);
        }
    }
    let (needed, one) = (activations(&halved), 2 * 8 * 37 * 41 * 2);
    assert!(needed < 3 * one, "{needed} bytes, {one} of a tensor of halves");
}

/// A softmax over channels is no step along rows, and what follows it is written over what was there.
#[test]
fn a_softmax_over_channels_stands_alone() {
    let dims = [1, 16, 33, 31];
    let mut nodes = vec![with(node("Softmax", &["x"], &["v0"]), "axis", AttributeValue::Int(1))];
    for (i, op) in ["Relu", "Sqrt", "Neg", "Exp", "Tanh", "Sigmoid"].into_iter().enumerate() {
        nodes.push(node(op, &[&format!("v{i}")], &[&format!("v{}", i + 1)]));
    }
    nodes.push(node("Neg", &["v6"], &["y"]));
    let made = of_dims(model(nodes, vec![]), dims);
    let steps = operators(&made);
    assert!(steps.iter().any(|s| s == "Softmax"), "{steps:?}");
    let (needed, one) = (activations(&made), 16 * 33 * 31 * 4);
    assert!(needed < 3 * one, "{needed} bytes, {one} of a tensor");
}

/// The same shape, asked for twice, is computed once, whatever its constants are called.
#[test]
fn computations_on_shapes_are_not_repeated() {
    let whole = |name: &str, dims: &[i64], v: &[i64]| Initializer {
        name: name.into(),
        tensor: Tensor::from_vec(DataType::Int64, dims.to_vec(), v.to_vec()),
        doc_string: None,
        metadata: vec![],
    };
    let mut nodes = Vec::new();
    // Twice the same through constants of other names; the third takes another element.
    for (i, at) in ["zero", "nought", "one"].into_iter().enumerate() {
        let name = |what: &str| format!("{what}{i}");
        nodes.push(node("Shape", &["v"], &[&name("shape")]));
        nodes.push(node("Gather", &[&name("shape"), at], &[&name("length")]));
        nodes.push(with(node("Concat", &[&name("length"), "rest"], &[&name("to")]), "axis", AttributeValue::Int(0)));
        nodes.push(node("Reshape", &["v", &name("to")], &[&name("flat")]));
    }
    nodes.insert(0, node("Relu", &["x"], &["v"]));
    nodes.push(node("Add", &["flat0", "flat1"], &["twice"]));
    nodes.push(node("ReduceSum", &["flat2"], &["total"]));
    nodes.push(node("Add", &["twice", "total"], &["sum"]));
    nodes.push(node("Shape", &["x"], &["back"]));
    nodes.push(node("Reshape", &["sum", "back"], &["y"]));
    let constants = vec![
        whole("zero", &[1], &[0]),
        whole("nought", &[1], &[0]),
        whole("one", &[1], &[1]),
        whole("rest", &[1], &[-1]),
    ];
    let made = of_dims(model(nodes, constants), DIMS);
    let operators = operators(&made);
    let count = |op: &str| operators.iter().filter(|o| *o == op).count();
    // Shape of v and of x; elements 0 and 1.
    assert_eq!([count("Shape"), count("Gather"), count("Concat"), count("Reshape")], [2, 2, 2, 4], "{operators:?}");
    let input = numbers(&mut Random(6), DIMS.iter().product());
    same(6, &made, &input, 1);
}
