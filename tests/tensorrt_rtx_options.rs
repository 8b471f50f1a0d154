//! Options of a build with TensorRT-RTX (see tensorrt_rtx.rs): what the version has works, what it has not is named.

mod onnx_builder;
mod tensorrt_common;

use mezzo::ErrorCode;
use mezzo::backend::tensorrt::{ComputeCapability, HardwareCompatibility, TacticSource, Verbosity};
use mezzo::backend::{BuildOptions, TensorRtOptions, parse_profile};
use mezzo::model::{DataType, Dim, Model, ValueInfo, ValueType};
use mezzo::precision::{ConvertOptions, convert};
use tensorrt_common::{build, digits, digits_options, library, options};

fn with(tensorrt: TensorRtOptions) -> BuildOptions {
    BuildOptions { tensorrt, ..digits_options() }
}

fn warnings(engine: &mezzo::engine::Engine) -> Vec<String> {
    let inspected: serde_json::Value = serde_json::from_str(&engine.inspect_json()).unwrap();
    inspected["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_string()).collect()
}

#[test]
fn options_that_the_version_has_build() {
    if library("options").is_none() {
        return;
    }
    for (name, tensorrt) in [
        ("verbosity", TensorRtOptions { verbosity: Verbosity::None, ..Default::default() }),
        ("aux_streams", TensorRtOptions { aux_streams: Some(0), ..Default::default() }),
        (
            "compute_capabilities",
            TensorRtOptions {
                compute_capabilities: vec![ComputeCapability::Number(89), ComputeCapability::Number(120)],
                ..Default::default()
            },
        ),
        ("workspace", TensorRtOptions { workspace: Some(64 << 20), ..Default::default() }),
        (
            "tactic_sources",
            TensorRtOptions { tactic_sources: Some(vec![TacticSource::JitConvolutions]), ..Default::default() },
        ),
        (
            "hardware_compatibility",
            TensorRtOptions { hardware_compatibility: Some(HardwareCompatibility::None), ..Default::default() },
        ),
    ] {
        build(&digits(), &with(tensorrt)).map(|_| ()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn options_that_the_version_does_not_have_are_named() {
    if library("missing options").is_none() {
        return;
    }
    for (name, tensorrt) in [
        (
            "tensorrt.tactic_sources",
            TensorRtOptions { tactic_sources: Some(vec![TacticSource::Cudnn]), ..Default::default() },
        ),
        (
            "tensorrt.compute_capabilities",
            TensorRtOptions { compute_capabilities: vec![ComputeCapability::Number(53)], ..Default::default() },
        ),
    ] {
        let error = build(&digits(), &with(tensorrt)).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
        assert!(error.message().contains(name), "{name}: {error}");
    }
}

#[test]
fn a_timing_cache_is_written_and_read_again() {
    if library("timing cache").is_none() {
        return;
    }
    let path = std::env::temp_dir().join(format!("mezzo-timings-{}", std::process::id()));
    let cached = || with(TensorRtOptions { timing_cache: Some(path.clone()), ..Default::default() });
    build(&digits(), &cached()).unwrap();
    let first = std::fs::read(&path).unwrap();
    assert!(!first.is_empty());
    // Without a driver the library cannot read its own cache, says so, and goes on with an empty one.
    build(&digits(), &cached()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), first.len());

    // What is no timing cache is replaced, and said, by the library or by Mezzo.
    std::fs::write(&path, b"no timing cache at all").unwrap();
    let engine = build(&digits(), &cached()).unwrap();
    assert!(warnings(&engine).iter().any(|w| w.contains("timing cache")), "{:?}", warnings(&engine));
    assert_eq!(std::fs::read(&path).unwrap().len(), first.len());

    // Builds side by side leave a whole file.
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..2).map(|_| scope.spawn(|| build(&digits(), &cached()).map(|_| ()))).collect();
        builds.into_iter().for_each(|b| b.join().unwrap().unwrap());
    });
    assert_eq!(std::fs::read(&path).unwrap().len(), first.len());
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(format!("{}.lock", path.display())).unwrap();
}

/// `y = Reshape(x, size)`: the values of `size` are a shape.
fn reshaping() -> Model {
    let mut model = onnx_builder::model(vec![onnx_builder::node("Reshape", &["x", "size"], &["y"])], Vec::new());
    let int = |name: &str, n| ValueInfo::new(name, ValueType::tensor(DataType::Int64, Some(vec![Dim::known(n)])));
    model.graph.inputs.push(int("size", 2));
    let any = ValueType::tensor(DataType::Float32, Some(vec![Dim::symbol("A"), Dim::symbol("B")]));
    model.graph.outputs = vec![ValueInfo::new("y", any)];
    model
}

#[test]
fn values_of_inputs_that_are_shapes_have_ranges() {
    if library("shape inputs").is_none() {
        return;
    }
    let profile = |text: &str| BuildOptions { profiles: vec![parse_profile(text).unwrap()], ..Default::default() };
    let good = profile("x=1x4:4x4:8x4;size=[1,4]:[2,8]:[8,32]");
    let engine = build(&reshaping(), &good).unwrap();
    assert_eq!(engine.info().inputs[1].data_type(), Some(DataType::Int64));
    let told: serde_json::Value = serde_json::from_str(&engine.inspect_json()).unwrap();
    let size = &told["profiles"][0]["size"];
    assert_eq!((&size["min"], &size["max"]), (&serde_json::json!([1, 4]), &serde_json::json!([8, 32])), "{size}");
    for (bad, says) in [
        ("x=1x4:4x4:8x4", "shape: give them in every profile"),
        ("x=1x4:4x4:8x4;size=[1]:[1]:[1]", "2 values"),
        ("x=1x4:4x4:8x4;size=[2,4]:[1,4]:[8,4]", "not in order"),
        ("x=[1,4];size=[1,4]", "more than one dimension"),
    ] {
        let error = build(&reshaping(), &profile(bad)).map(|_| ()).unwrap_err();
        assert!(error.message().contains(says), "{bad}: {error}");
    }
    let error = build(&digits(), &options(&[("image", "[1]")])).map(|_| ()).unwrap_err();
    assert!(error.message().contains("more than one dimension"), "{error}");
}

#[test]
fn fp16_can_be_required() {
    if library("require_fp16").is_none() {
        return;
    }
    let required = with(TensorRtOptions { require_fp16: true, ..Default::default() });
    let half = convert(&digits(), &ConvertOptions::default()).unwrap().model;
    build(&half, &required).unwrap();
    let error = build(&digits(), &required).map(|_| ()).unwrap_err();
    assert!(error.message().contains("no FP16 value"), "{error}");
}

#[test]
fn weights_go_to_the_parser_through_files_too() {
    if library("weights in files").is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("mezzo-scratch-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let through = with(TensorRtOptions { scratch_folder: Some(folder.clone()), ..Default::default() });
    for model in [digits(), convert(&digits(), &ConvertOptions::default()).unwrap().model] {
        let (memory, files) = (build(&model, &digits_options()).unwrap(), build(&model, &through).unwrap());
        assert_eq!(files.info().inputs, memory.info().inputs);
        assert_eq!(files.info().half_nodes, memory.info().half_nodes);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "what was written is taken away");
    std::fs::remove_dir(&folder).unwrap();
    let error = build(&digits(), &through).map(|_| ()).unwrap_err();
    assert!(error.message().contains("scratch_folder"), "{error}");
}
