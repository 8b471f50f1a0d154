//! Two builds of one model give the same plan, byte for byte. Alone in its process: beside other builds, TensorRT-RTX 1.7.1
//! writes some fifty bytes differently.

mod tensorrt_common;

use tensorrt_common::{build, digits, digits_options, library};

#[test]
fn equal_builds_give_equal_engine_files() {
    if library("equal plans").is_none() {
        return;
    }
    let file = || {
        let path = std::env::temp_dir().join(format!("mezzo-rtx-equal-{}.engine", std::process::id()));
        build(&digits(), &digits_options()).unwrap().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        bytes
    };
    let (first, second) = (file(), file());
    assert_eq!(first.len(), second.len());
    let differing = first.iter().zip(&second).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 0, "bytes that differ, of {}", first.len());
}
