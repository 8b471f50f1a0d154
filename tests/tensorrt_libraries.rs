//! Other versions of TensorRT load, tell their version, and fail cleanly where there is no driver. The libraries come
//! from `tools/fetch_tensorrt.sh lean` and `tools/fetch_tensorrt.sh 8.5`; where one is missing, its test says so and passes.

mod tensorrt_common;

use mezzo::backend::{BuildOptions, Progress, ShapeProfile, ShapeRange, TensorRtOptions};
use mezzo::engine::{Engine, Env};
use mezzo::frontend::onnx;
use mezzo::sys::tensorrt::{Api, Builder, Family, Flavour, SearchPaths};
use mezzo::{ErrorCode, ErrorDomain};
use std::path::{Path, PathBuf};
use tensorrt_common::say;

/// A file or folder under build/, or None with a word about it.
fn place(path: &str, fetch: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("build").join(path);
    if !place.exists() {
        say(&format!("SKIPPED: there is no build/{path}; run 'tools/fetch_tensorrt.sh {fetch}'"));
        return None;
    }
    Some(place)
}

fn load(place: &Path) -> &'static Api {
    let search = SearchPaths { explicit: Some(place.to_path_buf()), ..SearchPaths::default() };
    Api::load(Flavour::TensorRt, &search, false).unwrap()
}

fn driver_is_there() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

#[test]
fn the_lean_runtime_of_11_loads_and_does_not_build() {
    let Some(place) = place("tensorrt-lean/libnvinfer_lean.so.11", "lean") else { return };
    let api = load(&place);
    assert_eq!((api.version().to_string().as_str(), api.family()), ("TensorRT 11.4.0", Family::V11));
    let logger = api.logger();
    let error = Builder::new(api, &logger).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported);
    assert!(error.message().contains("no builder"), "{error}");
    if !driver_is_there() {
        let error = api.try_runtime().unwrap_err();
        assert_eq!(error.domain(), ErrorDomain::TensorRt);
        assert!(error.message().contains("runtime") && error.message().contains("CUDA"), "{error}");
    }
}

#[test]
fn tensorrt_8_5_loads_and_fails_cleanly_without_a_driver() {
    let Some(place) = place("tensorrt-8.5", "8.5") else { return };
    let api = load(&place);
    assert_eq!((api.version().to_string().as_str(), api.family()), ("TensorRT 8.5.3", Family::V8_5));
    assert!(!api.has_progress());
    if driver_is_there() {
        return;
    }
    let error = api.try_runtime().unwrap_err();
    assert!(error.message().contains("CUDA"), "{error}");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    let model = onnx::load_file(&digits, &onnx::LoadOptions::default()).unwrap();
    let range = ShapeRange::parse("1x1x8x8:8x1x8x8:32x1x8x8").unwrap();
    let options = BuildOptions {
        profiles: vec![ShapeProfile::from([("image".to_string(), range)])],
        tensorrt: TensorRtOptions { library: Some(place), ..TensorRtOptions::default() },
        ..BuildOptions::default()
    };
    let built = Engine::build(&Env::default_env(), &model, "tensorrt", &options, &Progress::default());
    let error = built.map(|_| ()).unwrap_err();
    assert!(error.message().contains("CUDA driver"), "{error}");
}

#[test]
fn without_a_library_the_error_says_where_it_was_looked_for() {
    let nowhere = std::env::temp_dir().join("mezzo-no-such-folder");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    let model = onnx::load_file(&digits, &onnx::LoadOptions::default()).unwrap();
    for backend in ["tensorrt", "tensorrt-rtx"] {
        let options = BuildOptions {
            tensorrt: TensorRtOptions { library: Some(nowhere.clone()), ..TensorRtOptions::default() },
            ..BuildOptions::default()
        };
        let built = Engine::build(&Env::default_env(), &model, backend, &options, &Progress::default());
        let error = built.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
        assert!(error.message().contains("mezzo-no-such-folder"), "{error}");
    }
}
