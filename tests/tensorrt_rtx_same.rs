//! Two builds of one model give the same engine file, as far as TensorRT-RTX lets them.
//!
//! Its compiler numbers the tensors that it makes itself (`__mye1902`) from several threads, so TensorRT-RTX 1.7.1 may write
//! other numbers into the plan in every build, from C++ too. Everything else is held byte for byte.

mod tensorrt_common;

use tensorrt_common::{build, digits, digits_options, library};

/// The engine file's checksum (8 bytes) and the one in the plan's header (4): they follow the numbers.
const CHECKSUMS: usize = 8 + 4;

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

/// The bytes with the digits of every `__mye1902` left out.
fn without_numbers(bytes: &[u8]) -> Vec<u8> {
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

#[test]
fn only_the_numbers_of_made_tensors_are_left_out() {
    assert_eq!(without_numbers(b"a1 __mye1902_b2 __my3 __mye"), b"a1 __mye_b2 __my3 __mye");
}
