//! What is thrown here is no panic: an exception of another language, made by hand, and C++'s own where a compiler is.

use super::catching;
use super::frame::Exception;
use crate::error::{Error, ErrorCode, ErrorDomain};
use crate::sys::dl::Library;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

unsafe extern "C-unwind" {
    fn _Unwind_RaiseException(exception: *mut Exception) -> c_int;
}

/// An exception that counts where it is freed.
#[repr(C)]
struct Counted<'c> {
    head: Exception,
    freed: &'c AtomicUsize,
}

unsafe extern "C" fn free(_: c_int, exception: *mut Exception) {
    // SAFETY: `throw` made it, and an exception is ended once.
    let counted = unsafe { Box::from_raw(exception.cast::<Counted>()) };
    counted.freed.fetch_add(1, Ordering::Relaxed);
}

extern "C-unwind" fn throw(freed: &AtomicUsize) {
    let head = Exception { class: u64::from_be_bytes(*b"MEZZTEST"), cleanup: Some(free), private: [0; 2] };
    let counted = Box::into_raw(Box::new(Counted { head, freed }));
    // SAFETY: an exception that lives until it is ended; the frames up to the one that catches may be unwound.
    let why = unsafe { _Unwind_RaiseException(counted.cast()) };
    panic!("nobody catches ({why})");
}

struct Counts<'c>(&'c AtomicUsize);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[inline(never)]
fn deeper(depth: usize, dropped: &AtomicUsize, freed: &AtomicUsize) -> usize {
    let _here = Counts(dropped);
    if depth == 0 {
        std::hint::black_box(throw as extern "C-unwind" fn(&AtomicUsize))(freed);
    } else {
        deeper(depth - 1, dropped, freed);
    }
    depth
}

#[test]
fn what_returns_is_returned() {
    let text = String::from("as it was");
    assert_eq!(catching("it", move || text).unwrap(), "as it was");
    assert_eq!(catching("it", || [7u64; 40]).unwrap(), [7; 40]);
}

#[test]
fn an_exception_becomes_an_error_and_frames_between_are_left_in_order() {
    let (dropped, freed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let guard = Counts(&dropped);
    let error = catching("IParser::parse", || {
        let _moved = guard;
        deeper(9, &dropped, &freed)
    })
    .unwrap_err();
    assert_eq!((dropped.load(Ordering::Relaxed), freed.load(Ordering::Relaxed)), (11, 1));
    assert_eq!(error.domain(), ErrorDomain::TensorRt);
    for part in ["IParser::parse threw", "an exception of unknown type", "newer TensorRT", "CPU backend"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

#[test]
fn a_panic_passes_through() {
    let dropped = AtomicUsize::new(0);
    let payload = catch_unwind(AssertUnwindSafe(|| {
        let _outside = Counts(&dropped);
        catching("it", || {
            let _inside = Counts(&dropped);
            std::panic::resume_unwind(Box::new(17u32));
        })
    }))
    .unwrap_err();
    assert_eq!((payload.downcast_ref(), dropped.load(Ordering::Relaxed)), (Some(&17u32), 2));
    assert!(!std::thread::panicking());
}

#[test]
fn frames_inside_of_others_catch_their_own() {
    let (dropped, freed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let outer = catching("the outer", || {
        let inner = catching("the inner", || deeper(1, &dropped, &freed)).unwrap_err();
        assert!(inner.message().starts_with("the inner"), "{inner}");
        deeper(2, &dropped, &freed)
    });
    assert!(outer.unwrap_err().message().starts_with("the outer"));
    assert_eq!((dropped.load(Ordering::Relaxed), freed.load(Ordering::Relaxed)), (5, 2));
}

#[test]
fn many_rounds_in_several_threads() {
    const ROUNDS: usize = 2000;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let (dropped, freed) = (AtomicUsize::new(0), AtomicUsize::new(0));
                for round in 0..ROUNDS {
                    let depth = (round + thread) % 5;
                    // Values in registers that the unwinder must give back.
                    let (a, b) = std::hint::black_box((round * 3, round as f64 * 0.5));
                    let before = dropped.load(Ordering::Relaxed);
                    assert!(catching("it", || deeper(depth, &dropped, &freed)).is_err());
                    assert_eq!(dropped.load(Ordering::Relaxed) - before, depth + 1);
                    assert_eq!((a, b), (round * 3, round as f64 * 0.5));
                    let panicked = catch_unwind(|| catching("it", || std::panic::resume_unwind(Box::new(()))));
                    assert!(panicked.is_err());
                }
                assert_eq!(freed.load(Ordering::Relaxed), ROUNDS);
            });
        }
    });
}

const SOURCE: &str = r#"
#include <map>
#include <stdexcept>
#include <string>
static int alive;
struct Guard { Guard() { alive++; } ~Guard() { alive--; } };
namespace { struct Local {}; }
struct Kept : std::runtime_error { Guard guard; Kept() : std::runtime_error("kept") {} };
extern "C" int still_alive() { return alive; }
extern "C" bool throws(int which) {
    Guard guard;
    std::map<std::string, int> empty;
    switch (which) {
    case 0: return empty.at("no such key");
    case 1: throw 5;
    case 2: throw Local();
    case 3: throw Kept();
    case 5: throw std::bad_alloc();
    case 4:
        try { throw Kept(); }
        catch (...) { std::rethrow_exception(std::current_exception()); }
    }
    return true;
}
extern "C" int uncaught() { return std::uncaught_exceptions(); }
"#;

/// A library made of the source above; `None` where there is no compiler.
fn compiled(name: &str, options: &[&str]) -> Option<Library> {
    let folder: PathBuf = std::env::temp_dir().join(format!("mezzo-foreign-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("throws.cpp"), folder.join(format!("lib{name}.so")));
    std::fs::write(&source, SOURCE).unwrap();
    let mut command = Command::new("g++");
    command.args(["-std=c++17", "-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).args(options);
    let made = match command.output() {
        Ok(output) if output.status.success() => Some(Library::open(&library).unwrap()),
        Ok(output) => {
            eprintln!("SKIPPED {name}: g++ says {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(e) => {
            eprintln!("SKIPPED {name}: g++ cannot be run ({e})");
            None
        }
    };
    std::fs::remove_dir_all(&folder).unwrap();
    made
}

/// The errors of all that the library throws; all of it is gone afterwards.
fn thrown_by(library: &Library) -> Vec<Error> {
    let symbol = |name| library.symbol(name).unwrap().as_ptr();
    // SAFETY: the source above has these signatures.
    let (throws, alive) = unsafe {
        (
            std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(c_int) -> bool>(symbol("throws")),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(symbol("still_alive")),
        )
    };
    // SAFETY: as above.
    assert!(catching("throws", || unsafe { throws(9) }).unwrap());
    let errors = (0..6).map(|which| {
        // SAFETY: as above.
        let caught = catching("throws", || unsafe { throws(which) });
        // SAFETY: as above.
        assert_eq!(unsafe { alive() }, 0, "{which}");
        caught.unwrap_err()
    });
    errors.collect()
}

#[test]
fn the_type_of_a_cpp_exception_is_told() {
    let Some(library) = compiled("throws", &[]) else { return };
    let kinds = ["std::out_of_range", "int", "(anonymous namespace)::Local", "Kept", "Kept", "std::bad_alloc"];
    for _ in 0..100 {
        for (error, kind) in thrown_by(&library).iter().zip(kinds) {
            assert!(error.message().starts_with(&format!("throws threw the C++ exception {kind}:")), "{error}");
        }
    }
    assert_eq!(thrown_by(&library).last().unwrap().code(), ErrorCode::OutOfMemory);
    let uncaught = library.symbol("uncaught").unwrap().as_ptr();
    // SAFETY: the source above has this signature.
    let uncaught = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(uncaught)() };
    assert_eq!(uncaught, 0);
}

#[test]
fn a_library_with_a_cpp_library_of_its_own_is_no_danger() {
    let hidden = ["-static-libstdc++", "-Wl,--exclude-libs,ALL", "-Wl,-Bsymbolic"];
    let Some(library) = compiled("static", &hidden) else { return };
    for error in thrown_by(&library) {
        assert!(error.message().starts_with("throws threw an exception of unknown type"), "{error}");
    }
}
