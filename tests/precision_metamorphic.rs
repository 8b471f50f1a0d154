//! What a conversion must not depend on, over random models: names, the order of nodes, and how often it is done.

mod onnx_builder;
mod random_models;

use mezzo::frontend::onnx::to_bytes;
use mezzo::model::infer::check_types;
use mezzo::model::{AttributeValue, DataType, Graph, Model, Name, Node};
use mezzo::precision::{ConvertOptions, Policy, convert};
use proptest::prelude::*;
use random_models::{Random, random_model};
use std::collections::{BTreeSet, HashMap, HashSet};

/// All ways to convert that the rules tell apart.
fn ways() -> Vec<ConvertOptions> {
    let mut ways = Vec::new();
    for precision in [DataType::Float16, DataType::Bfloat16] {
        for policy in [Policy::Safe, Policy::Pure] {
            for keep_io in [false, true] {
                ways.push(ConvertOptions { precision, policy, keep_io, ..ConvertOptions::default() });
            }
        }
    }
    ways
}

/// Does something with a graph and all graphs inside its nodes, the innermost first.
fn each_graph(graph: &mut Graph, act: &mut impl FnMut(&mut Graph)) {
    for node in &mut graph.nodes {
        for attribute in &mut node.attributes {
            if let AttributeValue::Graph(inner) = &mut attribute.value {
                each_graph(inner, act);
            }
        }
    }
    act(graph);
}

fn each_node(model: &Model, act: &mut impl FnMut(&Node)) {
    each_graph(&mut model.graph.clone(), &mut |g| g.nodes.iter().for_each(&mut *act));
}

/// Gives every value and every named node another name. Names of different length also sort differently.
fn renamed(model: &Model) -> Model {
    let new = |name: &Name| -> Name {
        if name.is_empty() { name.clone() } else { format!("{}/other:{name}", name.len() % 3).into() }
    };
    let mut model = model.clone();
    each_graph(&mut model.graph, &mut |g| {
        let infos = g.inputs.iter_mut().chain(&mut g.outputs).chain(&mut g.value_info);
        infos.for_each(|i| i.name = new(&i.name));
        g.initializers.iter_mut().for_each(|i| i.name = new(&i.name));
        for n in &mut g.nodes {
            n.name = new(&n.name);
            n.inputs.iter_mut().chain(&mut n.outputs).for_each(|v| *v = new(v));
        }
    });
    model
}

/// The model with its values numbered in order of their definition and its nodes without names.
fn without_names(model: &Model) -> Vec<u8> {
    let mut model = model.clone();
    number(&mut model.graph, &mut HashMap::new(), &mut 0);
    to_bytes(&model).unwrap()
}

fn number(graph: &mut Graph, outer: &mut HashMap<Name, Name>, next: &mut usize) {
    let mut names = outer.clone();
    let mut define = |name: &mut Name| {
        if !name.is_empty() {
            let known = names.entry(name.clone()).or_insert_with(|| {
                *next += 1;
                format!("v{next}").into()
            });
            *name = known.clone();
        }
    };
    graph.inputs.iter_mut().for_each(|i| define(&mut i.name));
    graph.initializers.iter_mut().for_each(|i| define(&mut i.name));
    for n in &mut graph.nodes {
        n.name = "".into();
        n.inputs.iter_mut().for_each(&mut define);
        n.outputs.iter_mut().for_each(&mut define);
    }
    graph.outputs.iter_mut().chain(&mut graph.value_info).for_each(|i| define(&mut i.name));
    for n in &mut graph.nodes {
        for attribute in &mut n.attributes {
            if let AttributeValue::Graph(inner) = &mut attribute.value {
                number(inner, &mut names, next);
            }
        }
    }
}

/// The model with its nodes, initializers and stated types in the order of their names.
fn without_order(model: &Model) -> Vec<u8> {
    let mut model = model.clone();
    each_graph(&mut model.graph, &mut |g| {
        g.nodes.sort_by(|a, b| a.outputs.cmp(&b.outputs));
        g.initializers.sort_by(|a, b| a.name.cmp(&b.name));
        g.value_info.sort_by(|a, b| a.name.cmp(&b.name));
    });
    to_bytes(&model).unwrap()
}

/// The names that a node reads, those that its bodies capture included.
fn reads(node: &Node) -> HashSet<Name> {
    let mut read: HashSet<Name> = node.inputs.iter().cloned().collect();
    for (_, body) in node.subgraphs() {
        read.extend(body.nodes.iter().flat_map(reads));
    }
    read.remove("");
    read
}

/// Every graph's nodes in another order in which each comes after what it reads.
fn reordered(model: &Model, seed: u64) -> Model {
    let mut random = Random(seed);
    let mut model = model.clone();
    each_graph(&mut model.graph, &mut |g| {
        let mut waiting: Vec<Node> = std::mem::take(&mut g.nodes);
        while !waiting.is_empty() {
            let unmade: HashSet<Name> = waiting.iter().flat_map(|n| n.outputs.iter().cloned()).collect();
            let ready: Vec<usize> = (0..waiting.len()).filter(|i| reads(&waiting[*i]).is_disjoint(&unmade)).collect();
            let chosen = *random.one_of(&ready);
            g.nodes.push(waiting.remove(chosen));
        }
    });
    model
}

/// The choices, without the words for them: the same node may be kept by the first of several rules that hold.
fn choices(converted: &mezzo::precision::Converted) -> BTreeSet<(String, String)> {
    converted.report.nodes.iter().map(|n| (n.output.clone(), n.precision.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_do_not_matter(seed: u64, size in 1usize..25) {
        let m = random_model(seed, size);
        check_types(&m).unwrap();
        let other = renamed(&m);
        for way in ways() {
            let (a, b) = (convert(&m, &way).unwrap(), convert(&other, &way).unwrap());
            prop_assert_eq!(without_names(&a.model), without_names(&b.model), "{:?}", way);
            let rules = |c: &mezzo::precision::Converted| c.report.nodes.iter().map(|n| n.rule.clone()).collect::<Vec<_>>();
            prop_assert_eq!(rules(&a), rules(&b));
        }
    }

    #[test]
    fn the_order_of_nodes_does_not_matter(seed: u64, size in 1usize..25, shuffle: u64) {
        let m = random_model(seed, size);
        let other = reordered(&m, shuffle);
        for way in ways() {
            let (a, b) = (convert(&m, &way).unwrap(), convert(&other, &way).unwrap());
            prop_assert_eq!(choices(&a), choices(&b), "{:?}", way);
            prop_assert_eq!(without_order(&a.model), without_order(&b.model), "{:?}", way);
        }
    }

    #[test]
    fn twice_is_once(seed: u64, size in 1usize..25) {
        let m = random_model(seed, size);
        for way in ways() {
            let once = convert(&m, &way).unwrap();
            let twice = convert(&once.model, &way).unwrap();
            prop_assert_eq!(to_bytes(&once.model).unwrap(), to_bytes(&twice.model).unwrap(), "{:?}", way);
        }
    }

    #[test]
    fn all_nodes_kept_is_the_model_itself(seed: u64, size in 1usize..25) {
        let m = random_model(seed, size);
        let mut types = BTreeSet::new();
        each_node(&m, &mut |n| {
            types.insert(n.op_type.to_string());
        });
        for way in ways().into_iter().filter(|w| w.keep_io) {
            let way = ConvertOptions { keep_op_types: types.iter().cloned().collect(), ..way };
            let kept = convert(&m, &way).unwrap();
            prop_assert_eq!(to_bytes(&kept.model).unwrap(), to_bytes(&m).unwrap(), "{:?}", way);
        }
    }

    #[test]
    fn no_cast_is_made_twice(seed: u64, size in 1usize..25) {
        let m = random_model(seed, size);
        for way in ways() {
            let done = convert(&m, &way).unwrap();
            each_graph(&mut done.model.graph.clone(), &mut |g| {
                let mut seen = HashSet::new();
                for n in g.nodes.iter().filter(|n| &*n.op_type == "Cast") {
                    // The model's own Casts may be doubled; ours are named after what they make.
                    let ours = n.name.ends_with("_cast");
                    assert!(seen.insert((n.inputs[0].clone(), n.int("to"))) || !ours, "{} is cast twice", n.inputs[0]);
                }
            });
        }
    }
}
