use super::*;
use crate::model::Model;

fn sizes(of: &[i64]) -> Vec<Dim> {
    of.iter().map(|n| Dim::Fixed(*n)).collect()
}

fn call(l: &mut Lowering, op: &str, args: &[Arg]) -> Arg {
    l.call(op, "", args, &[], &Location::default()).unwrap().remove(0)
}

fn tensor(a: &Arg) -> Tensor {
    a.tensor().unwrap().clone()
}

fn ops(m: &Model) -> Vec<String> {
    m.graph.nodes.iter().map(|n| n.op_type.to_string()).filter(|o| o != "Identity").collect()
}

#[test]
fn numbers_do_not_widen_tensors_of_their_category() {
    let mut l = Lowering::new();
    let half = Arg::Tensor(l.input("x", DataType::Float16, &sizes(&[3])));
    let whole = Arg::Tensor(l.input("n", DataType::Int64, &sizes(&[3])));
    assert_eq!(tensor(&call(&mut l, "aten::add", &[half.clone(), Arg::Float(1.5)])).dtype(), DataType::Float16);
    assert_eq!(tensor(&call(&mut l, "aten::add", &[whole.clone(), Arg::Float(1.5)])).dtype(), DataType::Float32);
    assert_eq!(tensor(&call(&mut l, "aten::div", &[whole.clone(), Arg::from(2)])).dtype(), DataType::Float32);
    let zero_dim = Arg::Tensor(l.input("z", DataType::Float32, &[]));
    assert_eq!(tensor(&call(&mut l, "aten::mul", &[half.clone(), zero_dim])).dtype(), DataType::Float16);
    let one_dim = Arg::Tensor(l.input("o", DataType::Float32, &sizes(&[1])));
    assert_eq!(tensor(&call(&mut l, "aten::mul", &[half, one_dim])).dtype(), DataType::Float32);
    assert_eq!(tensor(&call(&mut l, "aten::sum", &[whole])).dtype(), DataType::Int64);
}

#[test]
fn a_write_through_a_view_reaches_the_base_and_other_views() {
    let mut l = Lowering::new();
    let x = Arg::Tensor(l.input("x", DataType::Float32, &sizes(&[4, 6])));
    let base = call(&mut l, "aten::clone", &[x]);
    let row = call(&mut l, "aten::select", &[base.clone(), Arg::from(0), Arg::from(1)]);
    let flat = call(&mut l, "aten::view", &[base.clone(), Arg::List(vec![Arg::from(-1)])]);
    let before = l.current(&tensor(&flat)).unwrap();
    let written = call(&mut l, "aten::zero_", std::slice::from_ref(&row));
    assert!(tensor(&written).same(&tensor(&row)));
    let after = l.current(&tensor(&flat)).unwrap();
    assert!(!Rc::ptr_eq(&before, &after), "the other view still has the old value");
    let m = l.finish(&[("y".into(), tensor(&base)), ("z".into(), tensor(&flat))]).unwrap();
    assert!(ops(&m).contains(&"Concat".to_owned()), "{:?}", ops(&m));
}

#[test]
fn writing_through_an_expanded_view_is_refused_by_name() {
    let mut l = Lowering::new();
    let x = Arg::Tensor(l.input("x", DataType::Float32, &sizes(&[1, 3])));
    let wide = call(&mut l, "aten::expand", &[x, Arg::List(vec![Arg::from(2), Arg::from(3)])]);
    let y = call(&mut l, "aten::add_", &[wide, Arg::Float(1.0)]);
    let e = l.finish(&[("y".into(), tensor(&y))]).unwrap_err();
    assert!(e.message().contains("aten::add_") && e.message().contains("aten::expand"), "{e}");
}

#[test]
fn all_unsupported_operators_are_reported_at_once() {
    let mut l = Lowering::new();
    let x = Arg::Tensor(l.input("x", DataType::Float32, &sizes(&[3])));
    let at = Location { module: "encoder.0".into(), source: "model.py:7".into() };
    let a = l.call("aten::erfinv", "", std::slice::from_ref(&x), &[], &at).unwrap().remove(0);
    let b = l.call("aten::nothing_like_it", "", &[a], &[], &at).unwrap().remove(0);
    let e = l.finish(&[("y".into(), tensor(&b))]).unwrap_err();
    for part in ["aten::erfinv", "aten::nothing_like_it", "encoder.0", "model.py:7"] {
        assert!(e.message().contains(part), "{e}");
    }
}

/// ONNX's Max, Min and ReduceSum pass a NaN on; these of PyTorch's do not.
#[test]
fn operators_that_leave_nan_out_ask_for_it() {
    for (op, operands) in [("aten::fmax", 2), ("aten::fmin", 2), ("aten::nansum", 1)] {
        let mut l = Lowering::new();
        let x = Arg::Tensor(l.input("x", DataType::Float32, &sizes(&[3])));
        let y = call(&mut l, op, &vec![x; operands]);
        let model = l.finish(&[("y".into(), tensor(&y))]).unwrap();
        assert_eq!(model.graph.nodes.iter().filter(|n| &*n.op_type == "IsNaN").count(), operands, "{op}");
    }
}

#[test]
fn fixed_shapes_leave_no_shape_nodes_and_symbols_stay() {
    let flattened = |dim: Dim| {
        let mut l = Lowering::new();
        let x = Arg::Tensor(l.input("x", DataType::Float32, &[dim, Dim::Fixed(4), Dim::Fixed(5)]));
        let n = call(&mut l, "aten::size", &[x.clone(), Arg::from(0)]);
        let y = call(&mut l, "aten::reshape", &[x, Arg::List(vec![n, Arg::from(-1)])]);
        let shape = tensor(&y).shape();
        (shape, l.finish(&[("y".into(), tensor(&y))]).unwrap())
    };
    let (shape, m) = flattened(Dim::Fixed(3));
    assert_eq!(shape, [SymInt::Known(3), SymInt::Known(20)]);
    assert_eq!(ops(&m), ["Reshape"]);
    let (shape, m) = flattened(Dim::Symbol { name: "batch".into(), range: (Some(1), Some(8)) });
    assert_eq!(shape, [SymInt::symbol("batch"), SymInt::Known(20)]);
    assert_eq!(ops(&m), ["Reshape"]);
}

#[test]
fn tied_weights_are_one_initializer_and_bad_strides_errors() {
    let storage = Bytes::from(vec![0u8; 24]);
    let data = |sizes: Vec<i64>, strides: Vec<i64>, offset| TensorData {
        dtype: DataType::Float32,
        sizes,
        strides,
        offset,
        storage: storage.clone(),
    };
    let mut l = Lowering::new();
    let a = l.constant("w", &data(vec![2, 3], vec![3, 1], 0)).unwrap();
    let b = l.constant("w", &data(vec![2, 3], vec![3, 1], 0)).unwrap();
    assert!(Rc::ptr_eq(&l.current(&a).unwrap(), &l.current(&b).unwrap()));
    assert_eq!(l.initializers.len(), 1);
    l.constant("t", &data(vec![3, 2], vec![1, 3], 0)).unwrap();
    for (sizes, strides, offset) in [
        (vec![2, 3], vec![4, 1], 0),
        (vec![2, 3], vec![3, 1], 1),
        (vec![i64::MAX, 2], vec![1, 1], 0),
        (vec![2], vec![-1], 1),
    ] {
        assert!(l.constant(&format!("{sizes:?}{strides:?}"), &data(sizes.clone(), strides, offset)).is_err());
    }
}

#[test]
fn every_schema_of_the_table_parses() {
    let lines = include_str!("schemas.txt").lines().filter(|l| !l.starts_with('#'));
    for line in lines {
        let name = line.split(['.', '(']).next().unwrap();
        assert!(schema::overloads(name).iter().all(|s| s.params.iter().all(|p| !p.name.is_empty())), "{line}");
    }
    assert!(schema::overloads("aten::add").len() >= 2);
}

#[test]
fn sizes_compare_where_their_difference_has_a_sign() {
    let n = SymInt::symbol("n");
    let two = n.times(&SymInt::Known(2));
    assert_eq!(two.smaller(&n), n);
    assert_eq!(two.larger(&n), two);
    assert_eq!(two.smaller(&SymInt::Known(1)), SymInt::Known(1));
    assert!(matches!(n.smaller(&SymInt::Known(3)), SymInt::Symbolic(_)));
    assert_eq!(two.plus(&SymInt::Known(3)).floor_div(&SymInt::Known(2)).unwrap(), n.plus(&SymInt::Known(1)));
}
