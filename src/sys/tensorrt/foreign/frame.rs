//! The frame that catches, and what the unwinder asks of it.

use std::arch::global_asm;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// The head of every thrown object, as the Itanium C++ ABI has it.
#[repr(C, align(16))]
pub struct Exception {
    /// Vendor and language, four letters each.
    pub class: u64,
    /// Frees the object; called by who catches it and is of another language.
    pub cleanup: Option<unsafe extern "C" fn(reason: c_int, exception: *mut Exception)>,
    /// The unwinder's own.
    pub private: [usize; 2],
}

/// What the unwinder has of a frame; only its functions look inside.
#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

/// Rust's panics: older compilers write the letters as a number, newer ones as they stand in memory.
const RUST: [u64; 2] = [u64::from_be_bytes(*b"MOZ\0RUST"), u64::from_ne_bytes(*b"MOZ\0RUST")];
/// Actions: the search for who catches, and the frame that was found by it.
const SEARCH_PHASE: c_int = 1;
const HANDLER_FRAME: c_int = 4;
/// Answers.
const HANDLER_FOUND: c_int = 6;
const INSTALL_CONTEXT: c_int = 7;
const CONTINUE_UNWIND: c_int = 8;
/// The number that the unwinder gives to the register of a function's result: rax and x0.
const RESULT_REGISTER: c_int = 0;

// mezzo_foreign_call(function, argument) calls the function and returns 0; if it throws, the unwinder goes on at
// mezzo_foreign_caught with the exception as the result. The personality is named by a word that holds its address,
// because the unwind table of a shared library cannot hold it (0x9b: that word's distance from here, in 4 bytes).
macro_rules! frame {
    // The directive for a word of 8 bytes, and the function's instructions.
    ($word:literal, $($line:literal),+ $(,)?) => {
        global_asm!(
            ".pushsection .data.rel.ro.mezzo_foreign,\"aw\",@progbits",
            ".p2align 3",
            ".Lmezzo_foreign_personality:",
            concat!($word, " {personality}"),
            ".popsection",
            ".pushsection .text.mezzo_foreign_call,\"ax\",@progbits",
            ".globl mezzo_foreign_call",
            ".hidden mezzo_foreign_call",
            ".type mezzo_foreign_call,@function",
            ".globl mezzo_foreign_caught",
            ".hidden mezzo_foreign_caught",
            ".p2align 4",
            "mezzo_foreign_call:",
            ".cfi_startproc",
            ".cfi_personality 0x9b, .Lmezzo_foreign_personality",
            $($line,)+
            ".cfi_endproc",
            ".size mezzo_foreign_call, . - mezzo_foreign_call",
            ".popsection",
            personality = sym personality,
        );
    };
}

#[cfg(target_arch = "x86_64")]
frame!(
    ".quad",
    // The stack is aligned to 16 bytes at a call.
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "xor eax, eax",
    "mezzo_foreign_caught:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
);

#[cfg(target_arch = "aarch64")]
frame!(
    ".xword",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset w29, -16",
    ".cfi_offset w30, -8",
    "mov x29, sp",
    "mov x2, x0",
    "mov x0, x1",
    "blr x2",
    "mov x0, xzr",
    "mezzo_foreign_caught:",
    "ldp x29, x30, [sp], #16",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore w29",
    ".cfi_restore w30",
    "ret",
);

unsafe extern "C-unwind" {
    fn mezzo_foreign_call(function: unsafe extern "C-unwind" fn(*mut c_void), argument: *mut c_void) -> *mut Exception;
}

unsafe extern "C" {
    /// An address inside of the function above, not a variable.
    static mezzo_foreign_caught: u8;
    // Of the unwinder that Rust's own panics use.
    fn _Unwind_SetGR(context: *mut Context, register: c_int, value: usize);
    fn _Unwind_SetIP(context: *mut Context, address: usize);
}

/// The unwinder asks this for every exception that passes the frame.
unsafe extern "C" fn personality(
    version: c_int,
    actions: c_int,
    class: u64,
    exception: *mut Exception,
    context: *mut Context,
) -> c_int {
    if version != 1 || RUST.contains(&class) {
        return CONTINUE_UNWIND;
    }
    if actions & SEARCH_PHASE != 0 {
        return HANDLER_FOUND;
    }
    // A thread that is cancelled unwinds too, without a search: it must not be stopped.
    if actions & HANDLER_FRAME == 0 {
        return CONTINUE_UNWIND;
    }
    // SAFETY: the unwinder's own context of the frame, whose code goes on at that address with that register.
    unsafe {
        _Unwind_SetGR(context, RESULT_REGISTER, exception.expose_provenance());
        _Unwind_SetIP(context, (&raw const mezzo_foreign_caught).addr());
    }
    INSTALL_CONTEXT
}

/// A function that is to be called, and its result once it has returned.
struct Job<F, R> {
    f: Option<F>,
    result: Option<R>,
}

/// Calls `f`; the exception if one came out of it that is no panic. It must be ended.
pub fn call<R, F: FnOnce() -> R>(f: F) -> Result<R, NonNull<Exception>> {
    let mut job = Job { f: Some(f), result: None };
    // SAFETY: `run` for this very type of job, which lives during the call.
    let exception = unsafe { mezzo_foreign_call(run::<F, R>, (&raw mut job).cast()) };
    match (job.result, NonNull::new(exception)) {
        (_, Some(exception)) => Err(exception),
        (Some(result), None) => Ok(result),
        (None, None) => unreachable!("the function has neither returned nor thrown"),
    }
}

/// # Safety
/// The argument is a job of these types that nothing else uses.
unsafe extern "C-unwind" fn run<F: FnOnce() -> R, R>(job: *mut c_void) {
    // SAFETY: by this function's contract.
    let job = unsafe { &mut *job.cast::<Job<F, R>>() };
    job.result = job.f.take().map(|f| f());
}
