//! TensorRT-RTX builds plans on a machine without a GPU. The library comes from MEZZO_TENSORRT_PATH or build/tensorrt
//! (`tools/fetch_tensorrt.sh rtx`); where there is none, the tests say so and pass.

mod tensorrt_common;

use mezzo::backend::{BuildOptions, LoadOptions, Progress};
use mezzo::engine::{Context, Engine, Env};
use mezzo::model::{AttributeValue, DataType, Dim, Graph, Model, OutOfRange, TypeKind, ValueInfo, ValueType};
use mezzo::precision::{ConvertOptions, convert};
use mezzo::sys::tensorrt::{Api, Flavour, SearchPaths};
use mezzo::{ErrorCode, ErrorDomain};
use std::collections::BTreeSet;
use std::sync::Mutex;
use tensorrt_common::{build, digits, digits_options, env, library, options};

/// Every FP32 tensor, input and output in FP16: right for the digits model, whose operators all take it.
fn halved(mut model: Model) -> Model {
    fn value(v: &mut ValueInfo) {
        if let Some(TypeKind::Tensor { dtype, .. }) = v.ty.as_mut().map(|t| &mut t.kind)
            && *dtype == DataType::Float32
        {
            *dtype = DataType::Float16;
        }
    }
    fn graph(g: &mut Graph) {
        g.value_info.clear();
        g.inputs.iter_mut().chain(&mut g.outputs).for_each(value);
        let attributes = g.nodes.iter_mut().flat_map(|n| &mut n.attributes).filter_map(|a| match &mut a.value {
            AttributeValue::Tensor(t) => Some(&mut t.tensor),
            _ => None,
        });
        for tensor in g.initializers.iter_mut().map(|i| &mut i.tensor).chain(attributes) {
            if tensor.dtype() == DataType::Float32 {
                *tensor = tensor.converted(DataType::Float16, OutOfRange::Infinity).expect("halved");
            }
        }
    }
    graph(&mut model.graph);
    model
}

fn plan_bytes(engine: &Engine) -> u64 {
    let inspected: serde_json::Value = serde_json::from_str(&engine.inspect_json()).unwrap();
    inspected["plan_bytes"].as_u64().unwrap()
}

#[test]
fn the_library_tells_its_version_and_parses_with_its_parser() {
    let Some(api) = library("version") else { return };
    assert_eq!(api.version().flavour(), Flavour::Rtx);
    assert!(api.path().is_absolute(), "{api:?}");
    assert!(api.has_progress());
    let refused = Api::load(
        Flavour::TensorRt,
        &SearchPaths { explicit: Some(api.path().to_path_buf()), ..SearchPaths::default() },
        true,
    );
    let message = refused.unwrap_err().message().to_string();
    assert!(message.contains("it is TensorRT-RTX") && message.contains("not TensorRT"), "{message}");
}

#[test]
fn digits_builds_in_fp32_and_fp16() {
    if library("digits").is_none() {
        return;
    }
    let wide = build(&digits(), &digits_options()).unwrap();
    let half = build(&halved(digits()), &digits_options()).unwrap();
    for (engine, dtype) in [(&wide, DataType::Float32), (&half, DataType::Float16)] {
        let info = engine.info();
        assert_eq!(info.backend, "tensorrt-rtx");
        assert_eq!((info.inputs[0].name.as_str(), info.inputs[0].data_type()), ("image", Some(dtype)));
        assert_eq!((info.outputs[0].name.as_str(), info.outputs[0].data_type()), ("logits", Some(dtype)));
        assert!(info.inputs[0].text.contains("batch"), "{}", info.inputs[0].text);
        assert!(plan_bytes(engine) > 10_000);
    }
    // A strongly typed network has the types of the model: no float layer in the half one, no half layer in the other.
    assert!(wide.info().float_nodes >= 10 && wide.info().half_nodes == 0, "{:?}", wide.info());
    assert!(half.info().half_nodes >= 10 && half.info().float_nodes == 0, "{:?}", half.info());
    assert!(half.info().weight_bytes < wide.info().weight_bytes * 51 / 100);
    assert!(plan_bytes(&half) < plan_bytes(&wide), "{} {}", plan_bytes(&half), plan_bytes(&wide));
}

#[test]
fn a_model_that_mezzo_converted_builds() {
    if library("converted").is_none() {
        return;
    }
    let converted = convert(&digits(), &ConvertOptions::default()).unwrap();
    let engine = build(&converted.model, &digits_options()).unwrap();
    assert_eq!(engine.info().inputs[0].data_type(), Some(DataType::Float16));
    assert!(engine.info().half_nodes >= 10 && engine.info().float_nodes == 0, "{:?}", engine.info());

    let keep = ConvertOptions { keep_io: true, ..ConvertOptions::default() };
    let engine = build(&convert(&digits(), &keep).unwrap().model, &digits_options()).unwrap();
    assert_eq!(engine.info().inputs[0].data_type(), Some(DataType::Float32));
    assert!(engine.info().half_nodes >= 10 && engine.info().float_nodes == 1, "{:?}", engine.info());
}

#[test]
fn an_engine_file_is_described_without_the_library() {
    let Some(api) = library("engine file") else { return };
    let engine = build(&halved(digits()), &digits_options()).unwrap();
    let path = std::env::temp_dir().join(format!("mezzo-rtx-{}.engine", std::process::id()));
    engine.save(&path).unwrap();
    // The default environment has no library path, so nothing of NVIDIA's can be needed here.
    let loaded = Engine::load(&Env::default_env(), &path, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.info().backend_version, api.version().number());
    assert_eq!(loaded.info().inputs, engine.info().inputs);
    assert_eq!(loaded.inspect_json(), engine.inspect_json());
    // Without a driver there is nothing that executes it, and the error says what is missing.
    if let Err(error) = Context::new(&loaded) {
        assert!(matches!(error.code(), ErrorCode::NotFound | ErrorCode::Unsupported | ErrorCode::Version), "{error}");
        assert!(!error.message().is_empty());
    }

    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let error = Engine::load_bytes(&Env::default_env(), bytes.into(), &LoadOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidFile);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn progress_is_seen_and_cancels() {
    if library("progress").is_none() {
        return;
    }
    let phases = Mutex::new(BTreeSet::new());
    let watch = |phase: &str, fraction: f32| {
        assert!((0.0..=1.0).contains(&fraction));
        phases.lock().unwrap().insert(phase.to_string());
        true
    };
    let run = |callback: &(dyn Fn(&str, f32) -> bool + Sync)| {
        let progress = Progress { callback: Some(callback) };
        Engine::build(&env(), &digits(), "tensorrt-rtx", &digits_options(), &progress).map(|_| ())
    };
    run(&watch).unwrap();
    let phases = phases.into_inner().unwrap();
    assert!(phases.len() > 4, "only {phases:?}");

    // Stops at the first word from TensorRT itself.
    let own = ["writing the model", "parsing the model", "building the engine"];
    let error = run(&|phase: &str, _: f32| own.contains(&phase)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled, "{error}");
    let error = run(&|phase: &str, _: f32| phase != "parsing the model").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled, "{error}");
    let error = run(&|phase: &str, _: f32| {
        assert!(own.contains(&phase), "a panic of the test's own");
        true
    })
    .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal, "{error}");
    // And the next build works.
    run(&|_: &str, _: f32| true).unwrap();
}

#[test]
fn the_parser_names_the_node_it_refuses() {
    if library("parser errors").is_none() {
        return;
    }
    let mut model = digits();
    let node = model.graph.nodes.iter_mut().find(|n| n.is("Relu")).unwrap();
    node.op_type = "NoSuchOperator".into();
    let name = node.name.to_string();
    let error = build(&model, &digits_options()).map(|_| ()).unwrap_err();
    assert_eq!((error.code(), error.domain()), (ErrorCode::Unsupported, ErrorDomain::TensorRt), "{error}");
    assert!(error.message().contains(&name) && error.message().contains("NoSuchOperator"), "{error}");

    // A weight of the wrong size: the shapes do not go together.
    let mut model = digits();
    let gemm = model.graph.nodes.iter().find(|n| n.is("Gemm")).unwrap().inputs[1].clone();
    let weight = model.graph.initializers.iter_mut().find(|i| i.name == gemm).unwrap();
    let dims = weight.tensor.dims();
    weight.tensor = weight.tensor.reshaped(vec![dims[0] / 2, dims[1] * 2]).unwrap();
    let error = build(&model, &digits_options()).map(|_| ()).unwrap_err();
    assert_eq!(error.domain(), ErrorDomain::TensorRt, "{error}");
    assert!(error.message().contains("Gemm"), "{error}");
    // A failed parse leaves nothing behind.
    build(&digits(), &digits_options()).unwrap();
}

#[test]
fn profiles_are_checked_before_tensorrt_sees_them() {
    if library("profiles").is_none() {
        return;
    }
    let refused = |options: &BuildOptions| build(&digits(), options).map(|_| ()).unwrap_err();
    let error = refused(&BuildOptions::default());
    assert!(error.message().contains("'image'") && error.message().contains("profile"), "{error}");
    assert_eq!(refused(&options(&[("image", "1x1x9x8")])).code(), ErrorCode::ShapeMismatch);
    assert_eq!(refused(&options(&[("picture", "1x1x8x8")])).code(), ErrorCode::NotFound);
    let level = BuildOptions {
        tensorrt: mezzo::backend::TensorRtOptions { optimization_level: Some(9), ..Default::default() },
        ..digits_options()
    };
    assert_eq!(refused(&level).code(), ErrorCode::InvalidArgument);
}

#[test]
fn several_profiles_options_and_fixed_shapes_build() {
    if library("options").is_none() {
        return;
    }
    let mut many = digits_options();
    many.profiles.extend(options(&[("image", "64x1x8x8")]).profiles);
    many.tensorrt.workspace = Some(64 << 20);
    many.tensorrt.optimization_level = Some(1);
    many.tensorrt.tf32 = Some(false);
    build(&digits(), &many).unwrap();

    let mut fixed = digits();
    let image = ValueType::tensor(DataType::Float32, Some([4, 1, 8, 8].map(Dim::known).to_vec()));
    fixed.graph.inputs[0].ty = Some(image);
    build(&fixed, &BuildOptions::default()).unwrap();
}

#[test]
fn builds_run_side_by_side() {
    if library("threads").is_none() {
        return;
    }
    std::thread::scope(|scope| {
        let good: Vec<_> = (0..3).map(|_| scope.spawn(|| build(&digits(), &digits_options()).map(|_| ()))).collect();
        let bad = scope.spawn(|| {
            let mut model = digits();
            model.graph.nodes[0].op_type = "NoSuchOperator".into();
            build(&model, &digits_options()).map(|_| ())
        });
        assert!(bad.join().unwrap().unwrap_err().message().contains("NoSuchOperator"));
        good.into_iter().for_each(|t| t.join().unwrap().unwrap());
    });
}
