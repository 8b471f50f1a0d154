//! Engines of TensorRT-RTX in the build cache, and plans without a container (see tensorrt_rtx.rs).

mod tensorrt_common;

use mezzo::ErrorCode;
use mezzo::backend::{BuildOptions, LoadOptions, Progress};
use mezzo::engine::{CacheOutcome, Engine, Env, EnvOptions};
use std::path::PathBuf;
use std::sync::Arc;
use tensorrt_common::{build, digits, digits_options, folder, library, options};

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("mezzo-rtx-{name}-{}", std::process::id()))
}

fn cached_env(cache: &std::path::Path) -> Arc<Env> {
    Env::new(EnvOptions {
        library_paths: vec![folder()],
        cache_dir: Some(cache.to_path_buf()),
        ..EnvOptions::default()
    })
}

#[test]
fn the_second_build_comes_from_the_cache() {
    if library("cache").is_none() {
        return;
    }
    let cache = temporary("cache");
    let build = |options: &BuildOptions| {
        Engine::build(&cached_env(&cache), &digits(), "tensorrt-rtx", options, &Progress::default()).unwrap()
    };
    let first = build(&digits_options());
    let Some(CacheOutcome::Miss(reason)) = first.cache() else { panic!("{:?}", first.cache()) };
    assert_eq!(reason, "there is no engine of this model");
    let second = build(&digits_options());
    assert_eq!(second.cache(), Some(&CacheOutcome::Hit));
    assert_eq!(second.info().inputs, first.info().inputs);
    assert!(second.inspect_json().contains("\"build_cache\":\"hit\""));

    let other = build(&options(&[("image", "1x1x8x8:4x1x8x8:32x1x8x8")]));
    let Some(CacheOutcome::Miss(reason)) = other.cache() else { panic!("{:?}", other.cache()) };
    assert!(reason.contains("other options"), "{reason}");

    // A damaged entry is built again, and is there afterwards.
    for entry in std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()) {
        if entry.extension().is_some_and(|e| e == "engine") {
            let mut bytes = std::fs::read(&entry).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&entry, bytes).unwrap();
        }
    }
    let again = build(&digits_options());
    assert!(
        matches!(again.cache(), Some(CacheOutcome::Miss(reason)) if reason.contains("damaged")),
        "{:?}",
        again.cache()
    );
    assert_eq!(build(&digits_options()).cache(), Some(&CacheOutcome::Hit));

    // The CPU backend builds anew.
    let cpu =
        Engine::build(&cached_env(&cache), &digits(), "cpu", &BuildOptions::default(), &Progress::default()).unwrap();
    assert_eq!(cpu.cache(), None);
    std::fs::remove_dir_all(&cache).unwrap();
}

#[test]
fn builds_side_by_side_build_once() {
    if library("cache threads").is_none() {
        return;
    }
    let cache = temporary("cache-threads");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            let env = cached_env(&cache);
            let engine = Engine::build(&env, &digits(), "tensorrt-rtx", &digits_options(), &Progress::default());
            engine.unwrap().cache().cloned().unwrap()
        };
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        builds.into_iter().map(|b| b.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|o| **o == CacheOutcome::Hit).count(), 3, "{outcomes:?}");
    std::fs::remove_dir_all(&cache).unwrap();
}

#[test]
fn plans_go_out_and_come_in_only_when_trusted() {
    if library("plans").is_none() {
        return;
    }
    let engine = build(&digits(), &digits_options()).unwrap();
    let (path, file) = (temporary("plan"), temporary("engine"));
    engine.save_plan(&path).unwrap();
    engine.save(&file).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let inspected: serde_json::Value = serde_json::from_str(&engine.inspect_json()).unwrap();
    assert_eq!(bytes.len() as u64, inspected["plan_bytes"].as_u64().unwrap());
    assert!(std::fs::read(&file).unwrap().windows(bytes.len().min(64)).any(|w| w == &bytes[..w.len()]));

    let load = |path: &std::path::Path, backend: &str, trust_plan| {
        let options = LoadOptions { trust_plan, ..LoadOptions::default() };
        Engine::load_plan(&tensorrt_common::env(), path, backend, &options).map(|e| e.info().clone())
    };
    let error = load(&path, "tensorrt-rtx", false).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.message().contains("trust_plan"), "{error}");
    assert!(load(&file, "tensorrt-rtx", true).unwrap_err().message().contains("load it as an engine"));
    assert!(load(&path, "cpu", true).unwrap_err().message().contains("no plans"));
    // Without a device there is nobody to describe the plan.
    match load(&path, "tensorrt-rtx", true) {
        Ok(info) => assert_eq!(info.inputs[0].name, "image"),
        Err(e) => assert!(!e.message().is_empty(), "{e}"),
    }
    let cpu =
        Engine::build(&Env::default_env(), &digits(), "cpu", &BuildOptions::default(), &Progress::default()).unwrap();
    assert_eq!(cpu.save_plan(&path).unwrap_err().code(), ErrorCode::Unsupported);
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(file).unwrap();
}
