//! Mezzo's calls through virtual tables give the plan that a C++ program with NVIDIA's headers gives, byte for byte. Needs
//! TensorRT-RTX 1.7 (tensorrt_rtx.rs), the headers (`tools/fetch_tensorrt_headers.sh`) and a C++ compiler; where one is
//! missing it says so and passes. Alone in its process, as tensorrt_rtx_same.rs.

mod tensorrt_common;

use mezzo::frontend::onnx;
use mezzo::precision::{ConvertOptions, convert};
use std::path::{Path, PathBuf};
use std::process::Command;
use tensorrt_common::{PLAN_CHECKSUM, build, digits, digits_options, library, say, without_numbers};

fn headers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tensorrt-headers")
}

/// The C++ program, or None with a word about what is missing.
fn program(folder: &Path) -> Option<PathBuf> {
    let include = headers().join("TRT-RTX-1.7");
    if !include.is_dir() {
        say("SKIPPED headers: there are none; run 'tools/fetch_tensorrt_headers.sh'");
        return None;
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let target = folder.join("build_plan");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorrt_headers/build_plan.cpp");
    let include = |path: PathBuf| format!("-isystem{}", path.display());
    let done = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", &include(headers().join("TRT-RTX-1.7")), &include(headers())])
        .arg(&source)
        .arg("-o")
        .arg(&target)
        .arg("-ldl")
        .output();
    match done {
        Err(e) => {
            say(&format!("SKIPPED headers: '{compiler}' does not start ({e})"));
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(target)
        }
    }
}

/// Builds with both until two plans are equal. Where chance brings no two equal ones, all must be that the library does not
/// number as it likes (`without_numbers`).
fn compare(name: &str, by_cpp: impl Fn() -> Vec<u8>, by_mezzo: impl Fn() -> Vec<u8>) {
    let (mut cpp, mut mezzo) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        cpp.push(by_cpp());
        mezzo.push(by_mezzo());
        if cpp.iter().any(|c| mezzo.contains(c)) {
            return;
        }
    }
    let (cpp, mezzo) = (without_numbers(&cpp[0]), without_numbers(&mezzo[0]));
    assert_eq!(cpp.len(), mezzo.len(), "{name}");
    let differing: Vec<usize> = (0..cpp.len()).filter(|&i| cpp[i] != mezzo[i]).collect();
    assert!(differing.len() <= PLAN_CHECKSUM, "{name}: bytes that differ, of {}: at {differing:?}", cpp.len());
    say(&format!("{name}: no two plans of ten are equal, but all bytes beside the library's own numbers"));
}

#[test]
fn the_plan_is_the_one_of_the_cpp_interface() {
    let Some(api) = library("headers") else { return };
    if !api.version().to_string().starts_with("TensorRT-RTX 1.7") {
        say(&format!("SKIPPED headers: they are of TensorRT-RTX 1.7, the library is {}", api.version()));
        return;
    }
    let folder = std::env::temp_dir().join(format!("mezzo-headers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let Some(program) = program(&folder) else { return };
    let parser = api.path().to_str().unwrap().replace("libtensorrt_rtx.", "libtensorrt_onnxparser_rtx.");
    let half = convert(&digits(), &ConvertOptions::default()).unwrap().model;
    for (name, model) in [("fp32", digits()), ("fp16", half)] {
        let (onnx_file, plan, own) = (folder.join("model.onnx"), folder.join("cpp.plan"), folder.join("mezzo.plan"));
        std::fs::write(&onnx_file, onnx::to_bytes(&model).unwrap()).unwrap();
        let by_cpp = || {
            let output = Command::new(&program)
                .arg(api.path())
                .arg(&parser)
                .args([&onnx_file, &plan])
                .arg("image=1x1x8x8:8x1x8x8:32x1x8x8")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::read(&plan).unwrap()
        };
        let by_mezzo = || {
            build(&model, &digits_options()).unwrap().save_plan(&own).unwrap();
            std::fs::read(&own).unwrap()
        };
        compare(name, by_cpp, by_mezzo);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
