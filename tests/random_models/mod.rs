//! Random models, the same for the same seed: typed operators of every kind that the conversion treats differently, with
//! If, Loop, captures, sequences, shared and unnamed tensors, Casts to and fro, and constants that half cannot hold.
#![allow(dead_code, reason = "each test file uses some of it")]

use crate::onnx_builder::{WEIGHTS, init, model, node, with};
use mezzo::model::{AttributeValue, DataType, Dim, Graph, Initializer, Model, Node, Tensor, ValueInfo, ValueType};

/// SplitMix64, as published by Steele, Lea and Flood (2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

const UNARY: [&str; 14] = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Exp",
    "Floor",
    "Round",
    "Neg",
    "Identity",
    "Sin",
    "Cos",
    "Softmax",
    "Sqrt",
    "Transpose",
    "Abs",
];
const BINARY: [&str; 6] = ["Add", "Sub", "Mul", "Div", "Max", "Min"];
/// Constants of each kind: ordinary, a mask, an epsilon that half makes zero, infinite.
const SCALARS: [(&str, f32); 5] =
    [("c_two", 2.0), ("c_mask", -1e9), ("c_large", 20000.0), ("c_eps", 1e-12), ("c_inf", f32::NEG_INFINITY)];

struct Writer {
    random: Random,
    next: usize,
    /// The graphs that are open, the innermost last: FP32 [4,4] values that can be read, and the nodes so far.
    open: Vec<(Vec<String>, Vec<Node>)>,
}

/// A model of about `size` operators.
pub fn random_model(seed: u64, size: usize) -> Model {
    let mut w = Writer { random: Random(seed), next: 0, open: vec![(vec!["x".into()], Vec::new())] };
    for _ in 0..size {
        w.operator(2);
    }
    let Some((values, nodes)) = w.open.pop() else { unreachable!("the main graph is open") };
    let mut initializers: Vec<Initializer> = SCALARS.iter().map(|(name, v)| init(name, &[1], &[*v])).collect();
    initializers.push(init("w", &[4, 4], &WEIGHTS));
    initializers.push(init("scale", &[4], &WEIGHTS[..4]));
    initializers.push(int("trips", vec![], 3));
    initializers.push(int("first", vec![], 0));
    initializers.push(int("axis", vec![1], 1));
    let mut m = model(nodes, initializers);
    m.graph.inputs = vec![square("x", DataType::Float32), scalar("c", DataType::Bool), square("ids", DataType::Int64)];
    // The last values are outputs, and one that others read too.
    let mut outputs: Vec<String> = values.iter().rev().take(2).cloned().collect();
    outputs.extend(values.get(values.len() / 2).cloned());
    outputs.retain(|o| o != "x");
    outputs.sort();
    outputs.dedup();
    if outputs.is_empty() {
        m.graph.nodes.push(node("Relu", &["x"], &["y"]));
        outputs.push("y".into());
    }
    m.graph.outputs = outputs.iter().map(|o| square(o, DataType::Float32)).collect();
    m
}

fn square(name: &str, dtype: DataType) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(dtype, Some(vec![Dim::known(4), Dim::known(4)])))
}

fn scalar(name: &str, dtype: DataType) -> ValueInfo {
    ValueInfo::new(name, ValueType::tensor(dtype, Some(vec![])))
}

fn int(name: &str, dims: Vec<i64>, number: i64) -> Initializer {
    let tensor = Tensor::from_vec(DataType::Int64, dims, vec![number]);
    Initializer { name: name.into(), tensor, doc_string: None, metadata: vec![] }
}

impl Writer {
    fn name(&mut self, stem: &str) -> String {
        self.next += 1;
        format!("{stem}{}", self.next)
    }

    /// A value to read: of the graph itself or, captured, of one around it.
    fn read(&mut self) -> String {
        let level = if self.random.below(4) == 0 { self.random.below(self.open.len()) } else { self.open.len() - 1 };
        let values = &self.open[level].0;
        // The newest are read most, so that the graph is deep; old ones are shared.
        let back = self.random.below(values.len()).min(self.random.below(values.len()));
        values[values.len() - 1 - back].clone()
    }

    fn push(&mut self, mut node: Node) {
        if self.random.below(3) == 0 {
            node.name = "".into();
        }
        if let Some((_, nodes)) = self.open.last_mut() {
            nodes.push(node);
        }
    }

    /// Adds a node whose one result is a new value.
    fn add(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, AttributeValue)]) -> String {
        let out = self.name("v");
        let made = attributes.iter().fold(node(op, inputs, &[&out]), |n, (name, v)| with(n, name, v.clone()));
        self.push(made);
        out
    }

    fn done(&mut self, value: String) {
        if let Some((values, _)) = self.open.last_mut() {
            values.push(value);
        }
    }

    fn cast(&mut self, from: &str, to: i64) -> String {
        self.add("Cast", &[from], &[("to", AttributeValue::Int(to))])
    }

    fn operator(&mut self, depth: usize) {
        let x = self.read();
        let made = match self.random.below(if depth > 0 { 16 } else { 13 }) {
            0..=2 => {
                let op = *self.random.one_of(&UNARY);
                self.add(op, &[&x], &[])
            }
            3 | 4 => {
                let (op, y) = (*self.random.one_of(&BINARY), self.read());
                self.add(op, &[&x, &y], &[])
            }
            5 | 6 => {
                let (op, c) = (*self.random.one_of(&BINARY), self.random.one_of(&SCALARS).0);
                self.add(op, &[&x, c], &[])
            }
            7 => self.add("MatMul", &[&x, "w"], &[]),
            8 => self.casts(&x),
            9 => self.counts(),
            10 => self.normalisation(&x),
            11 => self.sequence(&x),
            12 => self.unnamed(&x),
            13 | 14 => self.branches(depth),
            _ => self.rounds(depth),
        };
        self.done(made);
    }

    /// Through half, double or integers and back, perhaps with half arithmetic between.
    fn casts(&mut self, x: &str) -> String {
        let to = *self.random.one_of(&[10, 10, 10, 11, 7, 9]);
        let mut there = self.cast(x, to);
        if to == 10 && self.random.below(2) == 0 {
            there = self.add("Relu", &[&there], &[]);
        }
        if self.random.below(4) == 0 {
            let wide = self.cast(&there, 1);
            there = self.cast(&wide, to);
        }
        self.cast(&there, 1)
    }

    /// Positions, and what is made of them.
    fn counts(&mut self) -> String {
        let position = self.cast("ids", 1);
        let angle = match self.random.below(3) {
            0 => self.add("MatMul", &[&position, "w"], &[]),
            1 => self.add("Mul", &[&position, "c_two"], &[]),
            _ => self.add("CumSum", &[&position, "axis"], &[]),
        };
        let op = *self.random.one_of(&["Sin", "Cos", "Floor", "Relu"]);
        self.add(op, &[&angle], &[])
    }

    /// A decomposed layer norm or softmax.
    fn normalisation(&mut self, x: &str) -> String {
        let mean: &[(&str, AttributeValue)] = &[("axes", AttributeValue::Ints(vec![-1]))];
        if self.random.below(2) == 0 {
            let e = self.add("Exp", &[x], &[]);
            let sum = self.add("ReduceSum", &[&e, "axis"], &[]);
            return self.add("Div", &[&e, &sum], &[]);
        }
        let m = self.add("ReduceMean", &[x], mean);
        let centred = self.add("Sub", &[x, &m], &[]);
        let squared = self.add("Mul", &[&centred, &centred], &[]);
        let variance = self.add("ReduceMean", &[&squared], mean);
        let eps = if self.random.below(2) == 0 { "c_eps" } else { "c_two" };
        let shifted = self.add("Add", &[&variance, eps], &[]);
        let root = self.add("Sqrt", &[&shifted], &[]);
        self.add("Div", &[&centred, &root], &[])
    }

    /// Into a sequence and out of it.
    fn sequence(&mut self, x: &str) -> String {
        let y = self.read();
        let s = self.add("SequenceConstruct", &[x, &y], &[]);
        self.add("SequenceAt", &[&s, "first"], &[])
    }

    /// A node with an output that has no name, and a Constant beside it.
    fn unnamed(&mut self, x: &str) -> String {
        let c = self.name("k");
        let tensor = init("", &[1], &[0.5]);
        self.push(with(node("Constant", &[], &[&c]), "value", AttributeValue::Tensor(tensor)));
        let product = self.add("Mul", &[x, &c], &[]);
        let out = self.name("v");
        self.push(node("LayerNormalization", &[&product, "scale", ""], &[&out, "", ""]));
        out
    }

    /// The nodes of a body, and the last value that it makes.
    fn body(&mut self, size: usize, depth: usize, values: Vec<String>) -> (Vec<Node>, String) {
        self.open.push((values, Vec::new()));
        if self.open.last().is_some_and(|(values, _)| values.is_empty()) {
            let outer = self.open.len() - 2;
            let count = self.open[outer].0.len();
            let x = self.open[outer].0[self.random.below(count)].clone();
            let first = self.add("Identity", &[&x], &[]);
            self.done(first);
        }
        for _ in 0..size {
            self.operator(depth - 1);
        }
        let (values, nodes) = self.open.pop().unwrap_or_default();
        (nodes, values.last().cloned().unwrap_or_default())
    }

    fn graph(name: &str, nodes: Vec<Node>, inputs: Vec<ValueInfo>, outputs: Vec<ValueInfo>) -> AttributeValue {
        AttributeValue::Graph(Box::new(Graph { name: Some(name.into()), nodes, inputs, outputs, ..Graph::default() }))
    }

    fn branches(&mut self, depth: usize) -> String {
        let mut attributes = Vec::new();
        for name in ["then_branch", "else_branch"] {
            let size = self.random.below(4);
            let (nodes, last) = self.body(size, depth, Vec::new());
            attributes.push((name, Writer::graph(name, nodes, vec![], vec![square(&last, DataType::Float32)])));
        }
        self.add("If", &["c"], &attributes)
    }

    fn rounds(&mut self, depth: usize) -> String {
        let (round, go, state) = (self.name("round"), self.name("go"), self.name("state"));
        let size = 1 + self.random.below(3);
        let (mut nodes, last) = self.body(size, depth, vec![state.clone()]);
        let on = self.name("on");
        nodes.push(node("Identity", &[&go], &[&on]));
        let inputs =
            vec![scalar(&round, DataType::Int64), scalar(&go, DataType::Bool), square(&state, DataType::Float32)];
        let outputs = vec![scalar(&on, DataType::Bool), square(&last, DataType::Float32)];
        let body = Writer::graph("body", nodes, inputs, outputs);
        let first = self.read();
        self.add("Loop", &["trips", "", &first], &[("body", body)])
    }
}
