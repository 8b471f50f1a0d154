//! What the tests of TensorRT-RTX share.
#![allow(dead_code)] // not every test uses everything

use mezzo::backend::{BuildOptions, Progress, ShapeProfile, ShapeRange};
use mezzo::engine::{Engine, Env, EnvOptions};
use mezzo::frontend::onnx;
use mezzo::model::Model;
use mezzo::sys::tensorrt::{Api, Flavour, SearchPaths, VARIABLE};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where tools/fetch_tensorrt.sh puts TensorRT-RTX.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tensorrt")
}

/// The library, or None with a word about it. A library that was asked for and does not load is a failure.
pub fn library(test: &str) -> Option<&'static Api> {
    if std::env::var_os(VARIABLE).is_none() && !folder().is_dir() {
        say(&format!("SKIPPED {test}: there is no TensorRT-RTX; run 'tools/fetch_tensorrt.sh rtx', or set {VARIABLE}"));
        return None;
    }
    Some(Api::load(Flavour::Rtx, &SearchPaths::new(None, &[folder()]), false).expect("TensorRT-RTX"))
}

/// Tells the user: the output of tests that pass is hidden, unless it is written past the test harness.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// An environment that finds the library.
pub fn env() -> Arc<Env> {
    Env::new(EnvOptions { library_paths: vec![folder()], ..EnvOptions::default() })
}

/// The digits model, with a dynamic batch.
pub fn digits() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits/digits.onnx");
    onnx::load_file(&path, &onnx::LoadOptions::default()).expect("digits.onnx")
}

/// Build options with one profile.
pub fn options(ranges: &[(&str, &str)]) -> BuildOptions {
    let profile: ShapeProfile =
        ranges.iter().map(|(name, range)| (name.to_string(), ShapeRange::parse(range).unwrap())).collect();
    BuildOptions { profiles: vec![profile], ..BuildOptions::default() }
}

/// Build options for the digits model.
pub fn digits_options() -> BuildOptions {
    options(&[("image", "1x1x8x8:8x1x8x8:32x1x8x8")])
}

/// Builds an engine for TensorRT-RTX.
pub fn build(model: &Model, options: &BuildOptions) -> mezzo::Result<Arc<Engine>> {
    Engine::build(&env(), model, "tensorrt-rtx", options, &Progress::default())
}

/// Bytes of the checksum in a plan's header.
pub const PLAN_CHECKSUM: usize = 4;

/// A plan, or a file with one, with the digits of every `__mye1902` left out.
///
/// TensorRT-RTX's compiler numbers the tensors that it makes itself from several threads, so version 1.7.1 may write other
/// numbers in every build, from C++ too. Everything else, checksums aside, is the same in equal builds.
pub fn without_numbers(bytes: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"__mye";
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(PREFIX) {
            Some(after) => {
                kept.extend_from_slice(PREFIX);
                rest = &after[after.iter().take_while(|b| b.is_ascii_digit()).count()..];
            }
            None => {
                kept.push(first);
                rest = tail;
            }
        }
    }
    kept
}
