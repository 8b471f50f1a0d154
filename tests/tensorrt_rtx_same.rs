//! Two builds of one model give the same engine file, as far as TensorRT-RTX lets them.
//!
//! See `without_numbers`.

mod tensorrt_common;

use tensorrt_common::{PLAN_CHECKSUM, build, digits, digits_options, library, without_numbers};

/// The engine file's checksum and the plan's follow the numbers.
const CHECKSUMS: usize = 8 + PLAN_CHECKSUM;

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
        without_numbers(&bytes)
    };
    let (first, second) = (file(), file());
    assert_eq!(first.len(), second.len());
    let differing: Vec<usize> = (0..first.len()).filter(|&i| first[i] != second[i]).collect();
    assert!(differing.len() <= CHECKSUMS, "bytes that differ, of {}: at {differing:?}", first.len());
}

#[test]
fn only_the_numbers_of_made_tensors_are_left_out() {
    assert_eq!(without_numbers(b"a1 __mye1902_b2 __my3 __mye"), b"a1 __mye_b2 __my3 __mye");
}
