/*
 * Mezzo: trained models in FP16, explicitly and with proof.
 *
 *     load      mezzo_model_load_file(), mezzo_model_load_memory()
 *     convert   mezzo_model_convert(): FP32 to FP16 or BF16, with a report of every node
 *     build     mezzo_engine_build(), saved by mezzo_engine_save_file(), loaded by mezzo_engine_load_file()
 *     execute   mezzo_context_new(), mezzo_context_bind(), mezzo_context_run(), mezzo_context_output()
 *     check     mezzo_compare(): what FP16 cost
 *
 * Rules for all functions:
 *
 * Errors. A call that can fail returns mezzo_error_t *: NULL for success, otherwise an error to be freed with
 * mezzo_error_free(). On failure the output arguments are untouched. Any such call can answer
 * MEZZO_ERROR_INVALID_ARGUMENT (an argument is NULL that may not be, is not UTF-8, or is a handle of another kind; the
 * message names it) and MEZZO_ERROR_INTERNAL (a bug in Mezzo; the handles it was given then refuse further use and can
 * only be freed). Nothing is thrown, and nothing aborts.
 *
 * Accessors that return a value directly cannot fail: they answer 0, the empty string or what their text says for NULL.
 *
 * Ownership. What a call puts into an output argument of type mezzo_..._t ** belongs to the caller, who frees it with the
 * function of its type; NULL may be freed. Objects keep alive what they need: a context its engine, a value its buffer.
 * Strings, descriptions and arrays that are returned as pointers to const are borrowed from the object they were asked
 * of, and valid until that object is freed.
 *
 * Threads. An argument of type const T * may be used by several threads at once, T * by one thread at a time. (retain and
 * free count as const for shared objects.) There is no state of a thread or of the process: an object may be used and
 * freed on another thread than it was made on.
 *
 * Strings are UTF-8 and end with a zero. Paths are taken as they are where the system allows any bytes in them.
 *
 * Callbacks get their `user` argument and may be called from any thread. They must not unwind (throw, longjmp) into the
 * library. The floating-point mode of the calling thread (rounding, flush-to-zero) has no influence on results, is
 * restored when a call returns, and is the standard one inside callbacks.
 *
 * Shapes are arrays of int64_t with the outermost dimension first; sizes are in bytes, and tensors are row-major without
 * gaps, in the byte order of the machine (little-endian).
 */


#ifndef MEZZO_MEZZO_H
#define MEZZO_MEZZO_H

/* Generated from src/capi by cbindgen: do not edit, run tools/header.sh. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header. See mezzo_check_version(). */
#define MEZZO_VERSION_MAJOR 0
#define MEZZO_VERSION_MINOR 1
#define MEZZO_VERSION_PATCH 0

/** Checks that the library at hand goes with this header: mezzo_error_t *error = MEZZO_CHECK_VERSION(); */
#define MEZZO_CHECK_VERSION() mezzo_check_version(MEZZO_VERSION_MAJOR, MEZZO_VERSION_MINOR)

/* Where a function comes from. Define MEZZO_STATIC when the static library is linked on Windows. */
#if defined(_WIN32) && !defined(MEZZO_STATIC)
#define MEZZO_API __declspec(dllimport)
#else
#define MEZZO_API
#endif

/* The result of a call that can fail must be looked at; mezzo_error_free(call) ignores it on purpose. */
#if defined(__GNUC__) || defined(__clang__)
#define MEZZO_NODISCARD __attribute__((warn_unused_result))
#else
#define MEZZO_NODISCARD
#endif

/// Values of mezzo_error_code_t. New ones may be added: treat an unknown one like MEZZO_ERROR_INTERNAL.
typedef enum {
    /// No error; what mezzo_error_code() says of NULL.
    MEZZO_OK = 0,
    /// An argument is NULL, out of range, or of a kind the call does not take.
    MEZZO_ERROR_INVALID_ARGUMENT = 1,
    /// A file, tensor, input, output, option or backend of that name does not exist.
    MEZZO_ERROR_NOT_FOUND = 2,
    /// The operating system refused a read or a write; the native code is its errno.
    MEZZO_ERROR_IO = 3,
    /// A file is damaged, truncated, or not of the format it claims.
    MEZZO_ERROR_INVALID_FILE = 4,
    /// A file can be parsed, but the model in it breaks the rules of ONNX.
    MEZZO_ERROR_INVALID_MODEL = 5,
    /// An operator, data type, opset or feature that this build or backend does not have.
    MEZZO_ERROR_UNSUPPORTED = 6,
    /// A data type differs from the expected one.
    MEZZO_ERROR_TYPE_MISMATCH = 7,
    /// A rank or a dimension differs from the expected one, or a dynamic shape was not set.
    MEZZO_ERROR_SHAPE_MISMATCH = 8,
    /// A size in bytes differs from what data type and shape need.
    MEZZO_ERROR_SIZE_MISMATCH = 9,
    /// Memory could not be had, or a limit set by the caller would be passed.
    MEZZO_ERROR_OUT_OF_MEMORY = 10,
    /// The handle or buffer is in use by another thread.
    MEZZO_ERROR_BUSY = 11,
    /// A progress callback or a cancel flag stopped the call.
    MEZZO_ERROR_CANCELLED = 12,
    /// A requested precision cannot be kept.
    MEZZO_ERROR_PRECISION = 13,
    /// Header and library, or file and library, are of versions that do not go together.
    MEZZO_ERROR_VERSION = 14,
    /// The call is not allowed in the handle's present state (an input is not bound, say).
    MEZZO_ERROR_INVALID_STATE = 15,
    /// The data in the tensors made an operator fail (an index out of range, say).
    MEZZO_ERROR_EXECUTION = 16,
    /// A bug in Mezzo. The handles that the call was given refuse further use and can only be freed.
    MEZZO_ERROR_INTERNAL = 99,
} mezzo_error_code_e;

/// Values of mezzo_error_domain_t.
typedef enum {
    /// Mezzo itself; there is no native code.
    MEZZO_DOMAIN_MEZZO = 0,
    /// The operating system; the native code is an errno.
    MEZZO_DOMAIN_IO = 1,
    /// The CUDA driver; the native code is a CUresult.
    MEZZO_DOMAIN_CUDA = 2,
    /// TensorRT or TensorRT-RTX; the native code is TensorRT's ErrorCode.
    MEZZO_DOMAIN_TENSORRT = 3,
} mezzo_error_domain_e;

/// Values of mezzo_log_level_t.
typedef enum {
    /// Something failed.
    MEZZO_LOG_ERROR = 1,
    /// Something to look at.
    MEZZO_LOG_WARNING = 2,
    /// What was done.
    MEZZO_LOG_INFO = 3,
    /// Details for developers.
    MEZZO_LOG_DEBUG = 4,
} mezzo_log_level_e;

/// Values of mezzo_dtype_t. New ones may be added.
typedef enum {
    /// No data type: what descriptions of sequences, optionals and maps answer.
    MEZZO_DTYPE_NONE = 0,
    /// IEEE 754 single precision, 4 bytes.
    MEZZO_DTYPE_FP32 = 1,
    /// Unsigned 8-bit integer.
    MEZZO_DTYPE_UINT8 = 2,
    /// Signed 8-bit integer.
    MEZZO_DTYPE_INT8 = 3,
    /// Unsigned 16-bit integer.
    MEZZO_DTYPE_UINT16 = 4,
    /// Signed 16-bit integer.
    MEZZO_DTYPE_INT16 = 5,
    /// Signed 32-bit integer.
    MEZZO_DTYPE_INT32 = 6,
    /// Signed 64-bit integer.
    MEZZO_DTYPE_INT64 = 7,
    /// Strings; such tensors have no bytes, see mezzo_value_string().
    MEZZO_DTYPE_STRING = 8,
    /// One byte, 0 or 1.
    MEZZO_DTYPE_BOOL = 9,
    /// IEEE 754 half precision, 2 bytes.
    MEZZO_DTYPE_FP16 = 10,
    /// IEEE 754 double precision, 8 bytes.
    MEZZO_DTYPE_FP64 = 11,
    /// Unsigned 32-bit integer.
    MEZZO_DTYPE_UINT32 = 12,
    /// Unsigned 64-bit integer.
    MEZZO_DTYPE_UINT64 = 13,
    /// Two FP32.
    MEZZO_DTYPE_COMPLEX64 = 14,
    /// Two FP64.
    MEZZO_DTYPE_COMPLEX128 = 15,
    /// The upper half of an FP32, 2 bytes.
    MEZZO_DTYPE_BF16 = 16,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities.
    MEZZO_DTYPE_FP8E4M3FN = 17,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities and no negative zero.
    MEZZO_DTYPE_FP8E4M3FNUZ = 18,
    /// 8-bit float, 5 exponent and 2 mantissa bits.
    MEZZO_DTYPE_FP8E5M2 = 19,
    /// 8-bit float, 5 exponent and 2 mantissa bits, no infinities and no negative zero.
    MEZZO_DTYPE_FP8E5M2FNUZ = 20,
    /// Unsigned 4-bit integer, two to a byte.
    MEZZO_DTYPE_UINT4 = 21,
    /// Signed 4-bit integer, two to a byte.
    MEZZO_DTYPE_INT4 = 22,
    /// 4-bit float, two to a byte.
    MEZZO_DTYPE_FP4E2M1 = 23,
    /// 8-bit exponent, a scale.
    MEZZO_DTYPE_FP8E8M0 = 24,
    /// Unsigned 2-bit integer, four to a byte.
    MEZZO_DTYPE_UINT2 = 25,
    /// Signed 2-bit integer, four to a byte.
    MEZZO_DTYPE_INT2 = 26,
    /// 6-bit float, 2 exponent and 3 mantissa bits, packed without gaps.
    MEZZO_DTYPE_FP6E2M3 = 27,
    /// 6-bit float, 3 exponent and 2 mantissa bits, packed without gaps.
    MEZZO_DTYPE_FP6E3M2 = 28,
} mezzo_dtype_e;

/// Values of mezzo_kind_t.
typedef enum {
    /// The model does not say.
    MEZZO_KIND_UNKNOWN = 0,
    /// A dense tensor; of strings, if its data type is MEZZO_DTYPE_STRING.
    MEZZO_KIND_TENSOR = 1,
    /// A sparse tensor.
    MEZZO_KIND_SPARSE_TENSOR = 2,
    /// A sequence of values.
    MEZZO_KIND_SEQUENCE = 3,
    /// A map from keys to values.
    MEZZO_KIND_MAP = 4,
    /// A value that may be absent.
    MEZZO_KIND_OPTIONAL = 5,
} mezzo_kind_e;

/// Values of mezzo_map_t.
typedef enum {
    /// Files above 64 MB are mapped.
    MEZZO_MAP_AUTO = 0,
    /// Files are always mapped.
    MEZZO_MAP_ALWAYS = 1,
    /// Files are never mapped.
    MEZZO_MAP_NEVER = 2,
} mezzo_map_e;

/// Values of mezzo_external_t.
typedef enum {
    /// Inside the file, unless it would have more than the 2 GB that the format allows.
    MEZZO_EXTERNAL_AUTO = 0,
    /// In a file of their own beside it, named like it with ".data" added.
    MEZZO_EXTERNAL_ALWAYS = 1,
    /// Inside the file; an error above 2 GB.
    MEZZO_EXTERNAL_NEVER = 2,
} mezzo_external_e;

/// Values of mezzo_policy_t.
typedef enum {
    /// Also keeps FP32 where FP16 is known to overflow or to lose the meaning.
    MEZZO_POLICY_SAFE = 0,
    /// Converts all that is legal, as PyTorch's half() does.
    MEZZO_POLICY_PURE = 1,
} mezzo_policy_e;

/// Values of mezzo_constants_t.
typedef enum {
    /// Their operator stays in FP32.
    MEZZO_CONSTANTS_KEEP_FP32 = 0,
    /// Their values become the largest finite value of the type (65504 for FP16), sign kept.
    MEZZO_CONSTANTS_CLAMP = 1,
    /// The conversion fails and names them.
    MEZZO_CONSTANTS_ERROR = 2,
} mezzo_constants_e;

/// A block of host memory. Shared and counted: bound contexts and values made over it keep it alive.
///
/// Calls of the library that meet in one buffer never race: reading shares, writing is exclusive, and a conflict is
/// MEZZO_ERROR_BUSY. What the caller does through mezzo_buffer_data() is the caller's to order against such calls.
typedef struct mezzo_buffer_t mezzo_buffer_t;

/// Runs a model on samples and keeps the range of every tensor. Exclusive: one thread at a time.
///
/// With the ranges, a conversion to FP16 keeps in FP32 what left half's safe range on the samples: values beyond 32752
/// (half of FP16's largest value), sums of such size behind means and norms, and tensors that stay below 2^-14 (FP16's
/// smallest normal value).
typedef struct mezzo_calibrator_t mezzo_calibrator_t;

/// A flag that stops runs. Shared and counted: one thread runs with it, another requests.
typedef struct mezzo_cancel_t mezzo_cancel_t;

/// How the outputs of an engine B differ from those of an engine A. Freed with mezzo_comparison_free().
///
/// The numbers are asked for by the place of the output, counted from 0 in the order of A.
typedef struct mezzo_comparison_t mezzo_comparison_t;

/// Device memory that several contexts use for their activations, in turns: as much as the largest of them needs, instead of the
/// sum. Safe to use from several threads.
///
/// The contexts may be of different engines and used by different threads; their executions follow one another on the device,
/// whatever their streams. What should overlap on the device needs contexts with memory of their own.
typedef struct mezzo_context_memory_t mezzo_context_memory_t;

/// Contexts of one engine, for threads that come and go: opening a context takes memory and time. Safe to use from several
/// threads.
typedef struct mezzo_context_pool_t mezzo_context_pool_t;

/// One execution of an engine: what is bound to its inputs and outputs, and what came out. Keeps its engine alive.
///
/// Exclusive: one thread at a time. A call that meets another thread's call on the same context answers
/// MEZZO_ERROR_BUSY. For concurrent runs open one context per thread: they share the engine's weights.
typedef struct mezzo_context_t mezzo_context_t;

/// How a model is converted. Exclusive: one thread at a time.
typedef struct mezzo_convert_options_t mezzo_convert_options_t;

/// A CUDA device. It is the library's, lives until the process ends, and is never freed.
typedef struct mezzo_device_t mezzo_device_t;

/// How an engine is built or loaded. Exclusive: one thread at a time.
typedef struct mezzo_engine_options_t mezzo_engine_options_t;

/// What a backend made of a model: ready to open contexts, which execute it. Immutable, shared and counted.
typedef struct mezzo_engine_t mezzo_engine_t;

/// What an environment is made of. Exclusive: one thread at a time.
typedef struct mezzo_env_options_t mezzo_env_options_t;

/// Owns log, allocator, threads and paths; there are no other globals. Shared and counted.
///
/// Wherever a call takes an environment, NULL stands for the default one: no log, the process's own allocator, one
/// thread per core. What is made in an environment keeps it alive.
typedef struct mezzo_env_t mezzo_env_t;

/// What went wrong. Calls that can fail return one, or NULL for success; free it with mezzo_error_free().
///
/// The message is one line of UTF-8 for people. It names the tensor, node, file or argument, what was expected, what
/// was given, and how to mend it. Nothing else remembers an error: there is no last-error state.
typedef struct mezzo_error_t mezzo_error_t;

/// A CUDA event: a place in a stream's work. Safe to use from several threads.
typedef struct mezzo_event_t mezzo_event_t;

/// Description of one input or output. Borrowed from the model or engine it was asked of; valid as long as that lives.
typedef struct mezzo_io_t mezzo_io_t;

/// How a model is loaded. Exclusive: one thread at a time.
typedef struct mezzo_load_options_t mezzo_load_options_t;

/// A model: a graph with its weights. Immutable, shared and counted.
///
/// Its weights are views of the file or memory it was loaded from, and a converted model shares them.
typedef struct mezzo_model_t mezzo_model_t;

/// What a conversion did. Never changes; freed with mezzo_report_free().
typedef struct mezzo_report_t mezzo_report_t;

/// How a context runs. Exclusive: one thread at a time.
typedef struct mezzo_run_options_t mezzo_run_options_t;

/// How a model is saved. Exclusive: one thread at a time.
typedef struct mezzo_save_options_t mezzo_save_options_t;

/// A CUDA stream: work enqueued on it runs in order, on the device. Safe to use from several threads.
///
/// Work of two streams is ordered by events (mezzo_stream_wait_event()). Two executions of one context are ordered by the
/// library, whatever their streams.
typedef struct mezzo_stream_t mezzo_stream_t;

/// A tensor, a string tensor, a sequence or an optional. Data type and shape never change; the elements of a tensor lie
/// in a buffer and can. Exclusive, but for the calls that take it as const.
///
/// Clones, and values made over the same buffer, share the elements.
typedef struct mezzo_value_t mezzo_value_t;

/// Kind of an error, one of mezzo_error_code_e.
typedef int32_t mezzo_error_code_t;

/// Layer that reported an error, one of mezzo_error_domain_e.
typedef int32_t mezzo_error_domain_t;

/// How important a log line is, one of mezzo_log_level_e.
typedef int32_t mezzo_log_level_t;

/// Receives a log line (UTF-8, without a newline, valid during the call). Called from any thread.
typedef void (*mezzo_log_callback_t)(void *user, mezzo_log_level_t level, const char *message);

/// Called once, from any thread, when what `user` stands for is no longer needed by the library. May be NULL.
typedef void (*mezzo_release_callback_t)(void *user);

/// Returns `size` bytes aligned to `alignment` (a power of two), or NULL. Called from any thread.
typedef void *(*mezzo_allocate_callback_t)(void *user, size_t size, size_t alignment);

/// Takes back what the allocate callback returned, with the same size and alignment. Called from any thread.
typedef void (*mezzo_deallocate_callback_t)(void *user, void *pointer, size_t size, size_t alignment);

/// Element type of a tensor, one of mezzo_dtype_e. The numbers are ONNX's (TensorProto.DataType).
typedef int32_t mezzo_dtype_t;

/// What a value is, one of mezzo_kind_e.
typedef int32_t mezzo_kind_t;

/// When files are memory-mapped instead of read, one of mezzo_map_e.
///
/// A mapped file must not be changed in place while a model or anything made from it lives: if it shrinks, the
/// operating system kills the process. To replace it by renaming another file over it is safe.
typedef int32_t mezzo_map_t;

/// Where weights go when a model is saved, one of mezzo_external_e.
typedef int32_t mezzo_external_t;

/// How far a conversion goes, one of mezzo_policy_e.
typedef int32_t mezzo_policy_t;

/// What is done with constants that the target type cannot hold, one of mezzo_constants_e.
typedef int32_t mezzo_constants_t;

/// Watches long work. Returns whether to go on; false stops the call with MEZZO_ERROR_CANCELLED.
///
/// phase: what is being done, a string valid during the call.
/// fraction: how much of that phase is done, 0 to 1.
///
/// May be called from other threads than the one that made the call, but not from two at once.
typedef bool (*mezzo_progress_callback_t)(void *user, const char *phase, float fraction);

/// Sees an intermediate tensor of a run.
///
/// name: the tensor's name in the model, valid during the call.
/// value: the tensor, valid during the call; mezzo_value_clone() keeps it longer. It must not be changed.
typedef void (*mezzo_tap_callback_t)(void *user, const char *name, const mezzo_value_t *value);

/// Sees the time of a layer.
///
/// layer: its name in the engine, valid during the call.
/// milliseconds: on the device.
typedef void (*mezzo_layer_time_callback_t)(void *user, const char *layer, float milliseconds);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The library's version as one number: major * 1000000 + minor * 1000 + patch.
MEZZO_API uint32_t mezzo_version(void);

/// The library's version as text ("0.1.0"). Static.
MEZZO_API const char *mezzo_version_string(void);

/// Checks that a program compiled with the header of version `major.minor` may use this library; MEZZO_CHECK_VERSION()
/// passes the version of the header at hand.
///
/// From version 1 on the major versions must be equal and the library's minor version not older than the header's.
/// Before version 1 the minor versions must be equal too.
///
/// Errors: MEZZO_ERROR_VERSION, naming both versions.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_check_version(uint32_t major,
                                   uint32_t minor);

/// The kind of an error; MEZZO_OK for NULL.
MEZZO_API mezzo_error_code_t mezzo_error_code(const mezzo_error_t *error);

/// The layer that reported an error; MEZZO_DOMAIN_MEZZO for NULL.
MEZZO_API mezzo_error_domain_t mezzo_error_domain(const mezzo_error_t *error);

/// The code that the layer below gave (errno, CUresult, ...); 0 if there is none, and for NULL.
MEZZO_API int64_t mezzo_error_native_code(const mezzo_error_t *error);

/// The message, borrowed from the error; the empty string for NULL.
MEZZO_API const char *mezzo_error_message(const mezzo_error_t *error);

/// Frees an error. NULL is allowed, so that a result can be ignored on purpose: mezzo_error_free(mezzo_...(...)).
MEZZO_API
void mezzo_error_free(mezzo_error_t *error);

/// The name of an error code ("MEZZO_ERROR_NOT_FOUND"); "MEZZO_ERROR_UNKNOWN" for numbers that are none. Static.
MEZZO_API
const char *mezzo_error_code_name(mezzo_error_code_t code);

/// The name of an error domain ("mezzo", "io", "cuda", "tensorrt"); "unknown" for numbers that are none. Static.
MEZZO_API
const char *mezzo_error_domain_name(mezzo_error_domain_t domain);

/// New options with the defaults. Free them with mezzo_env_options_free().
MEZZO_API mezzo_env_options_t *mezzo_env_options_new(void);

/// Frees options. NULL is allowed. Environments made from them are not affected.
MEZZO_API void mezzo_env_options_free(mezzo_env_options_t *options);

/// Sets where log lines go (nowhere, by default). `callback` NULL takes a callback away again.
///
/// `release(user)` is called once, when the options and all environments made from them are gone or another callback
/// was set, and not if this call fails. The callback must not call the library with the same handles, nor throw.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set_log(mezzo_env_options_t *options,
                                         mezzo_log_callback_t callback,
                                         void *user,
                                         mezzo_release_callback_t release);

/// Sets the least important level that is passed to the log callback; MEZZO_LOG_WARNING by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `level` is none of MEZZO_LOG_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set_log_level(mezzo_env_options_t *options,
                                               mezzo_log_level_t level);

/// Sets where the memory of buffers, values and outputs comes from (the process's own allocator, by default).
///
/// Both callbacks are needed, and both NULL takes an allocator away again. `release(user)` is called once, when the
/// options, all environments made from them and all memory from the allocator are gone, and not if this call fails.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set_allocator(mezzo_env_options_t *options,
                                               mezzo_allocate_callback_t allocate,
                                               mezzo_deallocate_callback_t deallocate,
                                               void *user,
                                               mezzo_release_callback_t release);

/// Sets the number of threads that an engine uses (the calling one included) if its own options do not say; 0, the
/// default, is one per core.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set_threads(mezzo_env_options_t *options,
                                             size_t threads);

/// Sets the folder where built engines may be cached; without one nothing is cached.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set_cache_dir(mezzo_env_options_t *options,
                                               const char *path);

/// Adds a folder where the libraries of backends are looked for first, in the order given.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_add_library_path(mezzo_env_options_t *options,
                                                  const char *path);

/// Sets an option by name: log_level (error, warning, info, debug), threads, cache_dir, library_path (adds).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_options_set(mezzo_env_options_t *options,
                                     const char *key,
                                     const char *value);

/// Makes an environment. `options` may be NULL for the defaults, and can be changed and used again afterwards.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_new(const mezzo_env_options_t *options,
                             mezzo_env_t **env);

/// Passes a line to the environment's log callback, as the library does.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `level` is none of MEZZO_LOG_*, or `message` is not UTF-8.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_env_log(const mezzo_env_t *env,
                             mezzo_log_level_t level,
                             const char *message);

/// One more reference to the same environment, to be given back with mezzo_env_free(). NULL for NULL.
MEZZO_API
mezzo_env_t *mezzo_env_retain(const mezzo_env_t *env);

/// Gives a reference back. NULL is allowed.
MEZZO_API void mezzo_env_free(mezzo_env_t *env);

/// Bits of one element; 0 for strings and for numbers that are no data type.
MEZZO_API size_t mezzo_dtype_bits(mezzo_dtype_t dtype);

/// Bytes of one element; 0 for strings, for types smaller than a byte, and for numbers that are no data type.
MEZZO_API
size_t mezzo_dtype_size(mezzo_dtype_t dtype);

/// The short name of a data type ("fp16", "int64"); "unknown" for numbers that are none. Static.
MEZZO_API const char *mezzo_dtype_name(mezzo_dtype_t dtype);

/// Finds a data type by its short name; "float", "float16", "float32", "bfloat16", "half", "double" and "float64" are
/// understood too.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such name.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_dtype_from_name(const char *name,
                                     mezzo_dtype_t *dtype);

/// Counts the CUDA devices. They are numbered from 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no CUDA driver; the message says what was tried.
MEZZO_API MEZZO_NODISCARD mezzo_error_t *mezzo_device_count(size_t *count);

/// Gives the version of CUDA that the driver has, as CUDA numbers it: 13000 is 13.0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no CUDA driver.
MEZZO_API MEZZO_NODISCARD mezzo_error_t *mezzo_device_driver_version(int32_t *version);

/// Gives a device. Its primary context is held from now on until the process ends.
///
/// index: from 0 to mezzo_device_count() - 1.
/// device: receives the device, which is not freed.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_device_get(size_t index,
                                const mezzo_device_t **device);

/// The device's name, as in "NVIDIA H100 80GB HBM3"; NULL for NULL.
MEZZO_API const char *mezzo_device_name(const mezzo_device_t *device);

/// Bytes of memory the device has; 0 for NULL.
MEZZO_API uint64_t mezzo_device_memory(const mezzo_device_t *device);

/// Compute capability as major * 10 + minor (90 is 9.0); 0 for NULL.
MEZZO_API uint32_t mezzo_device_compute_capability(const mezzo_device_t *device);

/// Streaming multiprocessors; 0 for NULL.
MEZZO_API uint32_t mezzo_device_multiprocessors(const mezzo_device_t *device);

/// Gives the bytes of device memory that are free now.
///
/// Errors: those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_device_free_memory(const mezzo_device_t *device,
                                        uint64_t *bytes);

/// Gives the range of stream priorities; a smaller number is a higher priority.
///
/// Errors: those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_device_stream_priorities(const mezzo_device_t *device,
                                              int32_t *lowest,
                                              int32_t *highest);

/// Makes a stream, which is not ordered with CUDA's legacy default stream.
///
/// device: the device's number, from 0.
/// priority: 0, or a number within mezzo_device_stream_priorities(); a smaller one is more urgent.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_stream_new(size_t device,
                                int32_t priority,
                                mezzo_stream_t **stream);

/// Borrows a stream of the caller's (`CUstream` and `cudaStream_t` are the same). It must live until the handle is freed and
/// the contexts that were enqueued on it are freed, or were enqueued on another stream.
///
/// device: the number of the device that the stream was made on; the stream is of the device's primary context, as all
///   streams of the CUDA runtime, of PyTorch and of TensorRT are.
/// cuda_stream: the stream; NULL is the legacy default stream.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_INVALID_ARGUMENT if the stream is not
/// of that device's primary context.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_stream_from_cuda(size_t device,
                                      void *cuda_stream,
                                      mezzo_stream_t **stream);

/// The stream as CUDA has it (`CUstream`, `cudaStream_t`), valid as long as the handle; NULL for NULL and for the legacy default
/// stream.
MEZZO_API
void *mezzo_stream_cuda(const mezzo_stream_t *stream);

/// Waits until all work enqueued on the stream so far is done.
///
/// Errors: those of the CUDA driver; an error of earlier work appears here.
MEZZO_API MEZZO_NODISCARD mezzo_error_t *mezzo_stream_synchronize(const mezzo_stream_t *stream);

/// Asks, without waiting, whether all work enqueued on the stream so far is done.
///
/// Errors: those of the CUDA driver; an error of earlier work appears here.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_stream_is_done(const mezzo_stream_t *stream,
                                    bool *done);

/// Lets work that is enqueued on the stream from now on wait, on the device, for a recorded event. The call does not wait.
///
/// Errors: those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_stream_wait_event(const mezzo_stream_t *stream,
                                       const mezzo_event_t *event);

/// Frees a stream; its work goes on. NULL is allowed. A borrowed stream stays the caller's.
MEZZO_API void mezzo_stream_free(mezzo_stream_t *stream);

/// Makes an event.
///
/// device: the device's number, from 0.
/// timing: whether the event takes the time; one without is cheaper.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_event_new(size_t device,
                               bool timing,
                               mezzo_event_t **event);

/// Records the place that the stream's work has reached. An event may be recorded again and again.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if they are of different devices; those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_event_record(const mezzo_event_t *event,
                                  const mezzo_stream_t *stream);

/// Waits until the recorded place was passed; at once if nothing was recorded.
///
/// Errors: those of the CUDA driver.
MEZZO_API MEZZO_NODISCARD mezzo_error_t *mezzo_event_synchronize(const mezzo_event_t *event);

/// Asks, without waiting, whether the recorded place was passed.
///
/// Errors: those of the CUDA driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_event_is_done(const mezzo_event_t *event,
                                   bool *done);

/// Gives the time from one event to another on the device, in milliseconds, resolved to about half a microsecond.
///
/// Errors: MEZZO_ERROR_INVALID_STATE if an event was made without timing or was not passed yet; those of the CUDA driver, as when
/// one was not recorded.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_event_elapsed(const mezzo_event_t *start,
                                   const mezzo_event_t *end,
                                   float *milliseconds);

/// The event as CUDA has it (`CUevent`, `cudaEvent_t`), valid as long as the handle; NULL for NULL.
MEZZO_API void *mezzo_event_cuda(const mezzo_event_t *event);

/// Frees an event. NULL is allowed.
MEZZO_API void mezzo_event_free(mezzo_event_t *event);

/// Allocates a buffer of `size` bytes, all zero, aligned to 64 bytes.
///
/// env: whose allocator is used; NULL for the default environment.
/// size: may be 0.
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_new(const mezzo_env_t *env,
                                size_t size,
                                mezzo_buffer_t **buffer);

/// Makes a buffer over memory of the caller's, without a copy.
///
/// data: `size` bytes that stay valid until `release` is called; NULL only if `size` is 0. The library writes them if
///   the buffer is bound to an output or copied into.
/// release: called once with `user` when the buffer, everything bound to it and all values over it are gone; NULL if
///   the memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_from_memory(void *data,
                                        size_t size,
                                        mezzo_release_callback_t release,
                                        void *user,
                                        mezzo_buffer_t **buffer);

/// Size in bytes; 0 for NULL.
MEZZO_API size_t mezzo_buffer_size(const mezzo_buffer_t *buffer);

/// Address of the first byte, valid as long as the buffer; NULL for NULL.
MEZZO_API void *mezzo_buffer_data(const mezzo_buffer_t *buffer);

/// Copies `size` bytes from `data` into the buffer at `offset`. The two may overlap.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if they do not fit, MEZZO_ERROR_BUSY if the buffer is in use.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_copy_in(mezzo_buffer_t *buffer,
                                    size_t offset,
                                    const void *data,
                                    size_t size);

/// Copies `size` bytes from the buffer at `offset` to `data`. The two may overlap.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the buffer has not that many, MEZZO_ERROR_BUSY if the buffer is being written.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_copy_out(const mezzo_buffer_t *buffer,
                                     size_t offset,
                                     void *data,
                                     size_t size);

/// One more reference to the same buffer, to be given back with mezzo_buffer_free(). NULL for NULL.
MEZZO_API mezzo_buffer_t *mezzo_buffer_retain(const mezzo_buffer_t *buffer);

/// Gives a reference back; the memory goes with the last one. NULL is allowed.
MEZZO_API void mezzo_buffer_free(mezzo_buffer_t *buffer);

/// Allocates memory on a device, aligned to 256 bytes. Its content is not defined.
///
/// A buffer may be freed right after work that uses it was enqueued by this library: the memory goes when that work is done.
///
/// device: the device's number, from 0.
/// size: may be 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_new_device(size_t device,
                                       size_t size,
                                       mezzo_buffer_t **buffer);

/// Allocates device memory in the order of a stream: it exists for work that follows, on that stream or ordered after it, and
/// is given back in the stream's order when the buffer is freed. Cheap: it does not wait for the device.
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY; MEZZO_ERROR_UNSUPPORTED if the device has no memory pools.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_new_async(const mezzo_stream_t *stream,
                                      size_t size,
                                      mezzo_buffer_t **buffer);

/// Allocates pinned host memory, all zero, from and to which devices copy without a detour and without making the caller wait.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_new_pinned(size_t device,
                                       size_t size,
                                       mezzo_buffer_t **buffer);

/// Makes a buffer over device memory of the caller's (`CUdeviceptr`, or what cudaMalloc gave), without a copy.
///
/// device: the number of the device in whose memory it lies.
/// address: `size` bytes that stay valid until `release` is called.
/// release: called once with `user` when the buffer, everything bound to it and the work that uses it are gone; NULL if the
///   memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver; MEZZO_ERROR_INVALID_ARGUMENT if the address is not in that
/// device's memory.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_from_device_memory(size_t device,
                                               void *address,
                                               size_t size,
                                               mezzo_release_callback_t release,
                                               void *user,
                                               mezzo_buffer_t **buffer);

/// The number of the device in whose memory the buffer lies; -1 for host memory, pinned memory and NULL.
MEZZO_API
int32_t mezzo_buffer_device(const mezzo_buffer_t *buffer);

/// Copies `size` bytes from one buffer to another, of any kind, in the order of a stream, and returns without waiting (for host
/// memory that is not pinned the driver may wait). Both buffers may be freed right away: their memory stays until the copy is
/// done. Pinned memory is the caller's to order, by the stream, as device memory is.
///
/// While the caller captures the stream into a graph the buffers must outlive the graph.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the ranges do not fit; MEZZO_ERROR_BUSY if a host buffer is in use.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_copy_async(mezzo_buffer_t *to,
                                       size_t to_offset,
                                       const mezzo_buffer_t *from,
                                       size_t from_offset,
                                       size_t size,
                                       const mezzo_stream_t *stream);

/// Sets `size` bytes of a device buffer to one value, in the order of a stream.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the range does not fit; MEZZO_ERROR_INVALID_ARGUMENT if it is no memory of the stream's device.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_fill_async(mezzo_buffer_t *buffer,
                                       size_t offset,
                                       uint8_t value,
                                       size_t size,
                                       const mezzo_stream_t *stream);

/// Converts floats on the device, in the order of a stream, for callers who hold FP32 and an engine that takes FP16: between
/// MEZZO_DTYPE_FP32 and MEZZO_DTYPE_FP16 or MEZZO_DTYPE_BF16. To the narrow type values are rounded to nearest even; those beyond its range
/// become infinities.
///
/// to, from: two buffers of the stream's device, with room for `count` elements from `to_offset` and `from_offset` (bytes) on.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for other types; MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_buffer_convert_async(mezzo_buffer_t *to,
                                          size_t to_offset,
                                          mezzo_dtype_t to_dtype,
                                          const mezzo_buffer_t *from,
                                          size_t from_offset,
                                          mezzo_dtype_t from_dtype,
                                          size_t count,
                                          const mezzo_stream_t *stream);

/// Lets go of what was freed while devices still used it and is not used any more, and gives the number of things that are still
/// in use. The library does this by itself when it allocates; call it before measuring memory.
MEZZO_API
size_t mezzo_device_collect(void);

/// Converts `count` floats to IEEE 754 half precision, rounding to nearest even. Sign, infinities and NaN are kept;
/// values of 65520 and more become infinity.
///
/// source: `count` floats.
/// destination: room for `count` halves; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_f32_to_f16(const float *source,
                                        size_t count,
                                        uint16_t *destination);

/// Converts `count` IEEE 754 halves to floats, exactly.
///
/// source: `count` halves.
/// destination: room for `count` floats; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_f16_to_f32(const uint16_t *source,
                                        size_t count,
                                        float *destination);

/// Converts `count` floats to bfloat16, rounding to nearest even. Sign, infinities and NaN are kept.
///
/// source: `count` floats.
/// destination: room for `count` bfloat16; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_f32_to_bf16(const float *source,
                                         size_t count,
                                         uint16_t *destination);

/// Converts `count` bfloat16 to floats, exactly.
///
/// source: `count` bfloat16.
/// destination: room for `count` floats; it must not overlap `source`. Both may be NULL if `count` is 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_bf16_to_f32(const uint16_t *source,
                                         size_t count,
                                         float *destination);

/// Gives a tensor to another framework as a `DLManagedTensorVersioned` (DLPack 1), without a copy. That framework calls its
/// deleter when it is done; until then the memory stays, whatever is freed here.
///
/// ready_on: the stream on which the tensor is computed, NULL if it is ready.
/// used_on: the stream on which the other framework will use it: it waits, on the device, for what is on `ready_on` now. NULL if
///   the caller orders the two.
/// tensor: receives the tensor.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if the value is no tensor of numbers; MEZZO_ERROR_UNSUPPORTED if DLPack has no such type.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_to_dlpack(const mezzo_value_t *value,
                                     const mezzo_stream_t *ready_on,
                                     const mezzo_stream_t *used_on,
                                     void **tensor);

/// Takes a tensor of another framework (a `DLManagedTensorVersioned`, DLPack 1) as a value, without a copy: host memory, pinned memory
/// or CUDA memory, contiguous and writable.
///
/// tensor: on success it belongs to the value, and its deleter is called when the value, its buffer and the work that uses it are
///   gone. If the call fails it stays the caller's.
/// ready_on: the stream on which the tensor is computed, NULL if it is ready.
/// used_on: the stream on which this library will use it: it waits, on the device, for what is on `ready_on` now. NULL if the caller
///   orders the two.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for strides, types or memory that values do not have; MEZZO_ERROR_VERSION for another version of DLPack.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_from_dlpack(void *tensor,
                                       const mezzo_stream_t *ready_on,
                                       const mezzo_stream_t *used_on,
                                       mezzo_value_t **value);

/// What the value is: MEZZO_KIND_TENSOR, MEZZO_KIND_SEQUENCE or MEZZO_KIND_OPTIONAL; MEZZO_KIND_UNKNOWN for NULL.
MEZZO_API
mezzo_kind_t mezzo_value_kind(const mezzo_value_t *value);

/// Element type of a tensor; MEZZO_DTYPE_NONE for sequences, optionals and NULL.
MEZZO_API mezzo_dtype_t mezzo_value_dtype(const mezzo_value_t *value);

/// Number of dimensions of a tensor; 0 for scalars, and for sequences, optionals and NULL.
MEZZO_API size_t mezzo_value_rank(const mezzo_value_t *value);

/// The dimensions of a tensor, mezzo_value_rank() many, borrowed from the value; NULL for sequences, optionals and NULL.
MEZZO_API
const int64_t *mezzo_value_dims(const mezzo_value_t *value);

/// Number of elements of a tensor, of members of a sequence; 1 or 0 for an optional with or without content; 0 for NULL.
MEZZO_API
size_t mezzo_value_count(const mezzo_value_t *value);

/// Bytes of a tensor's elements; 0 for string tensors, sequences, optionals and NULL.
MEZZO_API size_t mezzo_value_byte_size(const mezzo_value_t *value);

/// Address of a tensor's first element, row-major without gaps; valid as long as the value or its buffer lives. NULL for
/// string tensors, sequences, optionals and NULL.
///
/// Reading and writing through it is the caller's to order against calls that use the value.
MEZZO_API
void *mezzo_value_data(const mezzo_value_t *value);

/// Copies `size` bytes from `data` over the tensor's elements.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH unless `size` is mezzo_value_byte_size(), MEZZO_ERROR_TYPE_MISMATCH if the value is
/// no tensor of fixed-size elements, MEZZO_ERROR_BUSY if its buffer is in use.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_copy_in(mezzo_value_t *value,
                                   const void *data,
                                   size_t size);

/// Copies all elements of the tensor to `data`, which has room for `size` bytes.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if `size` is below mezzo_value_byte_size(), MEZZO_ERROR_TYPE_MISMATCH if the value
/// is no tensor of fixed-size elements, MEZZO_ERROR_BUSY if its buffer is being written.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_copy_out(const mezzo_value_t *value,
                                    void *data,
                                    size_t size);

/// Gives a string of a string tensor.
///
/// index: of the element, row-major.
/// data: receives its address, borrowed from the value. UTF-8 as ONNX asks, but any bytes are passed on; not ended by a
///   zero.
/// size: receives its length in bytes.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such element, MEZZO_ERROR_TYPE_MISMATCH if it is no string tensor.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_string(const mezzo_value_t *value,
                                  size_t index,
                                  const char **data,
                                  size_t *size);

/// Gives a member of a sequence or the content of an optional, as a new value that shares its elements.
///
/// index: below mezzo_value_count().
/// member: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such member, MEZZO_ERROR_TYPE_MISMATCH if the value is a tensor.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_member(const mezzo_value_t *value,
                                  size_t index,
                                  mezzo_value_t **member);

/// Gives the buffer behind a tensor, and where in it the tensor starts.
///
/// buffer: receives a new reference; give it back with mezzo_buffer_free().
/// offset: receives the offset in bytes. May be NULL.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if the value is no tensor of fixed-size elements.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_buffer(const mezzo_value_t *value,
                                  mezzo_buffer_t **buffer,
                                  size_t *offset);

/// Makes a value of the same numbers in another float type (FP16, BF16, FP32, FP64), rounded to nearest even. With the
/// type it has already, the new value shares the elements.
///
/// Errors: MEZZO_ERROR_TYPE_MISMATCH if either type is no float type.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_to_float(const mezzo_value_t *value,
                                    mezzo_dtype_t dtype,
                                    mezzo_value_t **converted);

/// A second handle to the same value; the elements are shared.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_clone(const mezzo_value_t *value,
                                 mezzo_value_t **clone);

/// Frees a value; its elements go with the last value, buffer or context that holds them. NULL is allowed.
MEZZO_API
void mezzo_value_free(mezzo_value_t *value);

/// Makes a tensor in newly allocated memory, all zero.
///
/// env: whose allocator is used; NULL for the default environment.
/// dtype: any type but MEZZO_DTYPE_STRING.
/// dims, rank: the shape; a rank of 0 is a scalar, and `dims` may then be NULL.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_new_tensor(const mezzo_env_t *env,
                                      mezzo_dtype_t dtype,
                                      const int64_t *dims,
                                      size_t rank,
                                      mezzo_value_t **value);

/// Makes a tensor in newly allocated memory with a copy of the caller's elements.
///
/// env: whose allocator is used; NULL for the default environment.
/// data, size: the elements, row-major without gaps; `size` is in bytes and must be what type and shape need.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_new_copy(const mezzo_env_t *env,
                                    mezzo_dtype_t dtype,
                                    const int64_t *dims,
                                    size_t rank,
                                    const void *data,
                                    size_t size,
                                    mezzo_value_t **value);

/// Makes a tensor over memory of the caller's, without a copy.
///
/// data, size: the elements, row-major without gaps, aligned to the element size (8 at most); `size` is in bytes and
///   must be what type and shape need. The library writes them if the value is bound to an output or copied into.
/// release: called once with `user` when the value, its clones and everything bound to them are gone; NULL if the
///   memory outlives them all. Not called if this call fails.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_from_memory(mezzo_dtype_t dtype,
                                       const int64_t *dims,
                                       size_t rank,
                                       void *data,
                                       size_t size,
                                       mezzo_release_callback_t release,
                                       void *user,
                                       mezzo_value_t **value);

/// Makes a tensor over a part of a buffer, which it keeps alive.
///
/// offset: where the tensor starts, in bytes; a multiple of the element size (8 at most).
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if the buffer is too small, MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_from_buffer(const mezzo_buffer_t *buffer,
                                       size_t offset,
                                       mezzo_dtype_t dtype,
                                       const int64_t *dims,
                                       size_t rank,
                                       mezzo_value_t **value);

/// Makes a string tensor with copies of the caller's strings.
///
/// strings, count: as many as the shape has elements, row-major.
/// lengths: their lengths in bytes; NULL if each string ends with a zero.
///
/// Errors: MEZZO_ERROR_SIZE_MISMATCH if `count` is not what the shape needs, MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_new_strings(const int64_t *dims,
                                       size_t rank,
                                       const char *const *strings,
                                       const size_t *lengths,
                                       size_t count,
                                       mezzo_value_t **value);

/// Makes a sequence. The members share their elements with the values given, which stay the caller's.
///
/// members, count: may be NULL and 0.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_new_sequence(const mezzo_value_t *const *members,
                                        size_t count,
                                        mezzo_value_t **value);

/// Makes an optional. Its content shares its elements with the value given, which stays the caller's.
///
/// content: NULL makes an optional without content.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_value_new_optional(const mezzo_value_t *content,
                                        mezzo_value_t **value);

/// Its name; the empty string for NULL.
MEZZO_API const char *mezzo_io_name(const mezzo_io_t *io);

/// Its type in full, for people ("fp16 [N,3,224,224]"); the empty string for NULL.
MEZZO_API const char *mezzo_io_text(const mezzo_io_t *io);

/// What it is; MEZZO_KIND_UNKNOWN for NULL.
MEZZO_API mezzo_kind_t mezzo_io_kind(const mezzo_io_t *io);

/// Element type of a dense tensor; MEZZO_DTYPE_NONE for everything else, and for NULL.
MEZZO_API mezzo_dtype_t mezzo_io_dtype(const mezzo_io_t *io);

/// Number of dimensions of a dense tensor; -1 if it is not known, for everything that is no dense tensor, and for NULL.
MEZZO_API
int64_t mezzo_io_rank(const mezzo_io_t *io);

/// Size of the dimension `index`; -1 if it is dynamic, if there is no such dimension, and for NULL.
MEZZO_API int64_t mezzo_io_dim(const mezzo_io_t *io, size_t index);

/// Name of the dynamic dimension `index` ("batch"): equal names are equal sizes within one run. NULL if the dimension
/// has none, is fixed, or does not exist, and for NULL.
MEZZO_API
const char *mezzo_io_dim_symbol(const mezzo_io_t *io,
                                size_t index);

/// New options with the defaults. Free them with mezzo_load_options_free().
MEZZO_API mezzo_load_options_t *mezzo_load_options_new(void);

/// Frees options. NULL is allowed. Models loaded with them are not affected.
MEZZO_API void mezzo_load_options_free(mezzo_load_options_t *options);

/// Sets when files are mapped; MEZZO_MAP_AUTO by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `map` is none of MEZZO_MAP_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_load_options_set_map(mezzo_load_options_t *options,
                                          mezzo_map_t map);

/// Adds external data for mezzo_model_load_memory().
///
/// location: the file name that the model gives for it; given twice, the later one counts.
/// data, size: the content of that file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the options, the model and everything made from it are gone; not if this call fails.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_load_options_add_external(mezzo_load_options_t *options,
                                               const char *location,
                                               const void *data,
                                               size_t size,
                                               mezzo_release_callback_t release,
                                               void *user);

/// Sets the folder where mezzo_model_load_memory() looks for external data; used if none is added from memory. (A model
/// loaded from a file has its external data beside the file.) Paths that climb out of the folder are refused.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_load_options_set_external_folder(mezzo_load_options_t *options,
                                                      const char *path);

/// Adds the shape and type of an input of a TorchScript archive, which does not know them itself.
///
/// input: NAME=SHAPE:TYPE, as in "x=1x3x224x224:fp32". NAME is a parameter of forward(), its position from 0, or left away
///   with the = for the next one; parts of lists, tuples and dicts are NAME.0 and NAME.key. Words in SHAPE are dynamic
///   dimensions ("batchx3x224x224"). A number or text that forward() takes is NAME=VALUE and becomes part of the model.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_load_options_add_input(mezzo_load_options_t *options,
                                            const char *input);

/// Sets an option by name: map (auto, always, never), input-shape (as mezzo_load_options_add_input()), force-eval (true
/// turns off the training mode that a TorchScript trace has baked in, instead of refusing it).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_load_options_set(mezzo_load_options_t *options,
                                      const char *key,
                                      const char *value);

/// New options with the defaults. Free them with mezzo_save_options_free().
MEZZO_API mezzo_save_options_t *mezzo_save_options_new(void);

/// Frees options. NULL is allowed.
MEZZO_API void mezzo_save_options_free(mezzo_save_options_t *options);

/// Sets where weights go; MEZZO_EXTERNAL_AUTO by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `external` is none of MEZZO_EXTERNAL_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_save_options_set_external(mezzo_save_options_t *options,
                                               mezzo_external_t external);

/// Sets an option by name: external (auto, always, never).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_save_options_set(mezzo_save_options_t *options,
                                      const char *key,
                                      const char *value);

/// Loads a model from a file: ONNX with the external data beside it, a .pt2 file of torch.export, or a TorchScript archive
/// with the shapes of mezzo_load_options_add_input().
///
/// env: receives log lines; NULL for the default environment.
/// path: of a regular file. Large files are mapped and must not be changed in place, see mezzo_map_t.
/// options: NULL for the defaults.
/// model: receives the model; give it back with mezzo_model_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file, or a file with external data, cannot be read;
/// MEZZO_ERROR_INVALID_FILE if it is damaged, truncated or no ONNX file; MEZZO_ERROR_INVALID_MODEL if it breaks the
/// rules of ONNX; MEZZO_ERROR_UNSUPPORTED if it uses what this version does not know.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_load_file(const mezzo_env_t *env,
                                     const char *path,
                                     const mezzo_load_options_t *options,
                                     mezzo_model_t **model);

/// Loads a model from memory; formats as for mezzo_model_load_file().
///
/// env: receives log lines; NULL for the default environment.
/// data, size: the content of a model file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the model and everything made from it are gone; not if this call fails.
/// options: NULL for the defaults. External data comes from mezzo_load_options_add_external() or from the folder of
///   mezzo_load_options_set_external_folder().
/// model: receives the model; give it back with mezzo_model_free().
///
/// Errors: as mezzo_model_load_file(); MEZZO_ERROR_NOT_FOUND if external data is missing.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_load_memory(const mezzo_env_t *env,
                                       const void *data,
                                       size_t size,
                                       mezzo_release_callback_t release,
                                       void *user,
                                       const mezzo_load_options_t *options,
                                       mezzo_model_t **model);

/// Writes the model to an ONNX file, whole or not at all. The file it was loaded from is allowed.
///
/// options: NULL for the defaults.
///
/// Errors: MEZZO_ERROR_IO or MEZZO_ERROR_NOT_FOUND if the place cannot be written, MEZZO_ERROR_INVALID_ARGUMENT if it is
/// a directory.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_save_file(const mezzo_model_t *model,
                                     const char *path,
                                     const mezzo_save_options_t *options);

/// Writes the model to memory, as one ONNX message with its weights inside.
///
/// buffer: receives a buffer with the content of a model file; give it back with mezzo_buffer_free().
///
/// Errors: MEZZO_ERROR_UNSUPPORTED above the 2 GB that the format allows, MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_save_memory(const mezzo_model_t *model,
                                       mezzo_buffer_t **buffer);

/// Number of inputs that a run needs (weights that a file lists as inputs do not count); 0 for NULL.
MEZZO_API
size_t mezzo_model_input_count(const mezzo_model_t *model);

/// Describes an input by its place; NULL if there is no such input. Borrowed from the model.
MEZZO_API const mezzo_io_t *mezzo_model_input(const mezzo_model_t *model, size_t index);

/// Describes an input by its name.
///
/// input: receives the description, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input; the message lists those there are.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_find_input(const mezzo_model_t *model,
                                      const char *name,
                                      const mezzo_io_t **input);

/// Number of outputs; 0 for NULL.
MEZZO_API size_t mezzo_model_output_count(const mezzo_model_t *model);

/// Describes an output by its place; NULL if there is no such output. Borrowed from the model.
MEZZO_API const mezzo_io_t *mezzo_model_output(const mezzo_model_t *model, size_t index);

/// Describes an output by its name.
///
/// output: receives the description, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such output; the message lists those there are.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_find_output(const mezzo_model_t *model,
                                       const char *name,
                                       const mezzo_io_t **output);

/// Name of the tool that made the model; empty if the model does not say, and for NULL. Borrowed from the model.
MEZZO_API
const char *mezzo_model_producer_name(const mezzo_model_t *model);

/// Version of the tool that made the model; empty if the model does not say, and for NULL. Borrowed from the model.
MEZZO_API
const char *mezzo_model_producer_version(const mezzo_model_t *model);

/// Version of the ONNX format (IR version); 0 for NULL.
MEZZO_API int64_t mezzo_model_ir_version(const mezzo_model_t *model);

/// Version of the operator set of a domain; 0 if the model does not import it, and for NULL.
///
/// domain: "" or "ai.onnx" is the standard one; NULL stands for it too.
MEZZO_API int64_t mezzo_model_opset(const mezzo_model_t *model, const char *domain);

/// Number of operator sets that the model imports; 0 for NULL.
MEZZO_API size_t mezzo_model_opset_count(const mezzo_model_t *model);

/// Domain of an imported operator set, as the file spells it; NULL if there is no such set. Borrowed from the model.
MEZZO_API
const char *mezzo_model_opset_domain(const mezzo_model_t *model,
                                     size_t index);

/// Number of metadata entries; 0 for NULL.
MEZZO_API size_t mezzo_model_metadata_count(const mezzo_model_t *model);

/// Key of a metadata entry; NULL if there is no such entry. Borrowed from the model.
MEZZO_API const char *mezzo_model_metadata_key(const mezzo_model_t *model, size_t index);

/// Value of a metadata entry; NULL if there is no such entry. Borrowed from the model.
MEZZO_API const char *mezzo_model_metadata_value(const mezzo_model_t *model, size_t index);

/// Value of the metadata entry with that key.
///
/// value: receives the string, borrowed from the model.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such key; the message lists those there are.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_find_metadata(const mezzo_model_t *model,
                                         const char *key,
                                         const char **value);

/// Number of nodes in the main graph; 0 for NULL.
MEZZO_API size_t mezzo_model_node_count(const mezzo_model_t *model);

/// Bytes of all constants of the model, in their declared types; 0 for NULL.
MEZZO_API uint64_t mezzo_model_weight_bytes(const mezzo_model_t *model);

/// One more reference to the same model, to be given back with mezzo_model_free(). NULL for NULL.
MEZZO_API mezzo_model_t *mezzo_model_retain(const mezzo_model_t *model);

/// Gives a reference back. NULL is allowed. Models and engines made from it are not affected.
MEZZO_API void mezzo_model_free(mezzo_model_t *model);

/// New options with the defaults: FP16, inputs and outputs converted, policy safe, constants that do not fit kept in
/// FP32. Free them with mezzo_convert_options_free().
MEZZO_API
mezzo_convert_options_t *mezzo_convert_options_new(void);

/// Frees options. NULL is allowed.
MEZZO_API void mezzo_convert_options_free(mezzo_convert_options_t *options);

/// Sets the target type: MEZZO_DTYPE_FP16 (default) or MEZZO_DTYPE_BF16.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT for other types.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_precision(mezzo_convert_options_t *options,
                                                   mezzo_dtype_t precision);

/// Sets whether the model's inputs and outputs stay FP32 (false by default: they are converted too).
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_keep_io(mezzo_convert_options_t *options,
                                                 bool keep);

/// Decides for one input or output, whatever mezzo_convert_options_set_keep_io() says.
///
/// name: of the input or output. A name that the model does not have makes the conversion fail.
/// keep: whether it stays FP32.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_keep_io_of(mezzo_convert_options_t *options,
                                                const char *name,
                                                bool keep);

/// Keeps all nodes of an operator type in FP32.
///
/// op_type: "Softmax", or "domain::Op" for operators of other domains.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_keep_op_type(mezzo_convert_options_t *options,
                                                  const char *op_type);

/// Keeps nodes in FP32 by their names.
///
/// pattern: a node name; `*` stands for any characters and `?` for one.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_keep_node(mezzo_convert_options_t *options,
                                               const char *pattern);

/// Keeps the node that makes a tensor in FP32 (the way to name a node without a name).
///
/// tensor: name of one of the node's outputs.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_keep_output(mezzo_convert_options_t *options,
                                                 const char *tensor);

/// Sets how far the conversion goes; MEZZO_POLICY_SAFE by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `policy` is none of MEZZO_POLICY_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_policy(mezzo_convert_options_t *options,
                                                mezzo_policy_t policy);

/// Sets what is done with constants that do not fit; MEZZO_CONSTANTS_KEEP_FP32 by default.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `constants` is none of MEZZO_CONSTANTS_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_constants(mezzo_convert_options_t *options,
                                                   mezzo_constants_t constants);

/// Declares the element type of an output of an operator that ONNX does not know and that the model itself does not
/// state. Such operators stay in FP32 as they are; the conversion must only know what they give.
///
/// tensor: name of the output.
/// dtype: its element type in the model that is converted.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `dtype` is none of MEZZO_DTYPE_*.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_declare(mezzo_convert_options_t *options,
                                             const char *tensor,
                                             mezzo_dtype_t dtype);

/// Sets the version of ai.onnx that the model is brought to before its conversion, 7 to 28; 0, the default, leaves it.
/// Many operators take bfloat16 only from version 13 or 22 on. A conversion never changes the version by itself.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if there is no such version. (The conversion fails if the model is newer, or has
/// a node that the version has no form for.)
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_opset(mezzo_convert_options_t *options,
                                               int64_t version);

/// Sets the least share of nodes that must compute in half precision, of those that can; below it the conversion fails
/// with MEZZO_ERROR_PRECISION. 0 by default.
///
/// share: from 0 to 1.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if `share` is not from 0 to 1.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_min_half_share(mezzo_convert_options_t *options,
                                                        double share);

/// Sets an option by name: precision (fp16, bf16), keep_io (true, false), keep_io_of, convert_io_of, keep_op_types,
/// keep_nodes, keep_outputs (lists separated by commas, added), policy (safe, pure), constants (keep_fp32, clamp, error),
/// declare (NAME=TYPE), opset (a version), min_half_share (0 to 1).
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set(mezzo_convert_options_t *options,
                                         const char *key,
                                         const char *value);

/// Converts a model to half precision. The result has passed a type checker that walks every edge of every subgraph.
/// The model given stays as it is; the new one shares its weights and converts them when they are read.
///
/// options: NULL for the defaults.
/// converted: receives the new model; give it back with mezzo_model_free().
/// report: receives what was done and why; free it with mezzo_report_free(). NULL if it is not wanted.
///
/// Errors: MEZZO_ERROR_PRECISION if what the options ask for cannot be kept, MEZZO_ERROR_INVALID_MODEL if types do not go
/// together, MEZZO_ERROR_UNSUPPORTED, MEZZO_ERROR_NOT_FOUND if an option names what the model does not have.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_model_convert(const mezzo_model_t *model,
                                   const mezzo_convert_options_t *options,
                                   mezzo_model_t **converted,
                                   mezzo_report_t **report);

/// The target type ("fp16" or "bf16"); the empty string for NULL.
MEZZO_API const char *mezzo_report_precision(const mezzo_report_t *report);

/// The policy ("safe" or "pure"); the empty string for NULL.
MEZZO_API const char *mezzo_report_policy(const mezzo_report_t *report);

/// Float tensors (edges and constants) of half type after the conversion; 0 for NULL.
MEZZO_API uint64_t mezzo_report_half_tensors(const mezzo_report_t *report);

/// Float tensors (edges and constants) of FP32 or FP64 type after the conversion; 0 for NULL.
MEZZO_API uint64_t mezzo_report_float_tensors(const mezzo_report_t *report);

/// Nodes that compute in half precision; 0 for NULL.
MEZZO_API uint64_t mezzo_report_half_nodes(const mezzo_report_t *report);

/// Nodes that stayed in FP32; 0 for NULL.
MEZZO_API uint64_t mezzo_report_float_nodes(const mezzo_report_t *report);

/// Cast nodes that the conversion added; 0 for NULL.
MEZZO_API uint64_t mezzo_report_casts_added(const mezzo_report_t *report);

/// Cast nodes that the conversion removed or gave another target; 0 for NULL.
MEZZO_API uint64_t mezzo_report_casts_removed(const mezzo_report_t *report);

/// Bytes of all constants before the conversion; 0 for NULL.
MEZZO_API uint64_t mezzo_report_bytes_before(const mezzo_report_t *report);

/// Bytes of all constants after the conversion; 0 for NULL.
MEZZO_API uint64_t mezzo_report_bytes_after(const mezzo_report_t *report);

/// Number of nodes that the report tells of: all that touch float values, in the order of the model; 0 for NULL.
MEZZO_API
size_t mezzo_report_node_count(const mezzo_report_t *report);

/// Name of a node, which may be empty; empty if there is no such node. Borrowed from the report, as all its strings.
MEZZO_API
const char *mezzo_report_node_name(const mezzo_report_t *report,
                                   size_t index);

/// First output of a node; empty if there is no such node.
MEZZO_API const char *mezzo_report_node_output(const mezzo_report_t *report, size_t index);

/// Operator type of a node ("Conv", or "domain::Op"); empty if there is no such node.
MEZZO_API const char *mezzo_report_node_op_type(const mezzo_report_t *report, size_t index);

/// The subgraphs or functions that a node stands in; empty for the main graph.
MEZZO_API const char *mezzo_report_node_scope(const mezzo_report_t *report, size_t index);

/// What a node computes in ("fp16", "bf16" or "fp32"); empty if there is no such node.
MEZZO_API const char *mezzo_report_node_precision(const mezzo_report_t *report, size_t index);

/// The rule that kept a node in FP32, a short name that does not change; empty for half nodes.
MEZZO_API const char *mezzo_report_node_rule(const mezzo_report_t *report, size_t index);

/// The tensor that a node's rule speaks of; may be empty.
MEZZO_API const char *mezzo_report_node_tensor(const mezzo_report_t *report, size_t index);

/// The value that a node's rule speaks of; NaN if it speaks of none.
MEZZO_API double mezzo_report_node_value(const mezzo_report_t *report, size_t index);

/// A node's rule as a sentence for people; empty for half nodes.
MEZZO_API const char *mezzo_report_node_reason(const mezzo_report_t *report, size_t index);

/// Number of constants whose values changed by more than rounding; 0 for NULL.
MEZZO_API size_t mezzo_report_constant_count(const mezzo_report_t *report);

/// Name of a constant; empty if there is no such constant.
MEZZO_API const char *mezzo_report_constant_name(const mezzo_report_t *report, size_t index);

/// Number of elements of a constant; 0 if there is no such constant.
MEZZO_API uint64_t mezzo_report_constant_elements(const mezzo_report_t *report, size_t index);

/// Elements of a constant that became the largest finite value; 0 if there is no such constant.
MEZZO_API uint64_t mezzo_report_constant_clamped(const mezzo_report_t *report, size_t index);

/// Elements of a constant that became zero and were not; 0 if there is no such constant.
MEZZO_API uint64_t mezzo_report_constant_flushed(const mezzo_report_t *report, size_t index);

/// Elements of a constant that became subnormal and were not; 0 if there is no such constant.
MEZZO_API uint64_t mezzo_report_constant_subnormal(const mezzo_report_t *report, size_t index);

/// Largest magnitude of a finite element of a constant, before the conversion; 0 if there is no such constant.
MEZZO_API
double mezzo_report_constant_max_abs(const mezzo_report_t *report,
                                     size_t index);

/// Number of notes: sentences for people about the model as a whole; 0 for NULL.
MEZZO_API size_t mezzo_report_note_count(const mezzo_report_t *report);

/// One note, borrowed from the report; NULL if there is no such note.
MEZZO_API const char *mezzo_report_note(const mezzo_report_t *report, size_t index);

/// The whole report as JSON, borrowed from it; the empty string for NULL.
MEZZO_API const char *mezzo_report_to_json(const mezzo_report_t *report);

/// The report in short, as lines of text for people, borrowed from it; the empty string for NULL.
MEZZO_API const char *mezzo_report_to_text(const mezzo_report_t *report);

/// Frees a report and everything borrowed from it. NULL is allowed.
MEZZO_API void mezzo_report_free(mezzo_report_t *report);

/// Makes a calibrator for a model, as it is before its conversion. The samples run on the CPU backend.
///
/// env: NULL for the default environment.
/// calibrator: receives the calibrator; free it with mezzo_calibrator_free().
///
/// Errors: those of mezzo_engine_build() for the backend "cpu".
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_calibrator_new(const mezzo_env_t *env,
                                    const mezzo_model_t *model,
                                    mezzo_calibrator_t **calibrator);

/// Runs one sample and adds what the tensors hold to their ranges. A sample that fails changes no range.
///
/// names, values, count: the model's inputs: `count` names and as many values.
///
/// Errors: those of mezzo_context_bind() and mezzo_context_run().
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_calibrator_run(mezzo_calibrator_t *calibrator,
                                    const char *const *names,
                                    const mezzo_value_t *const *values,
                                    size_t count);

/// Runs one sample of random values: floats from -1 to 1, integers 0 or 1, dynamic dimensions 1. Real samples tell more.
///
/// seed: the same seed gives the same sample.
///
/// Errors: those of mezzo_engine_random_input() and mezzo_context_run().
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_calibrator_run_random(mezzo_calibrator_t *calibrator,
                                           uint64_t seed);

/// How many samples have run; 0 for NULL.
MEZZO_API uint64_t mezzo_calibrator_samples(const mezzo_calibrator_t *calibrator);

/// The range of a tensor over all samples.
///
/// tensor: its name in the model.
/// min, max: receive the smallest and the largest finite value; both NaN if there was none.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if no sample has shown a float tensor of that name.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_calibrator_range(const mezzo_calibrator_t *calibrator,
                                      const char *tensor,
                                      double *min,
                                      double *max);

/// Lets a conversion go by the ranges that the calibrator has now; a copy, the calibrator is not needed afterwards.
///
/// calibrator: NULL takes ranges back out of the options.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_convert_options_set_calibration(mezzo_convert_options_t *options,
                                                     const mezzo_calibrator_t *calibrator);

/// Frees a calibrator. NULL is allowed.
MEZZO_API void mezzo_calibrator_free(mezzo_calibrator_t *calibrator);

/// New options with the defaults. Free them with mezzo_engine_options_free().
MEZZO_API mezzo_engine_options_t *mezzo_engine_options_new(void);

/// Frees options. NULL is allowed. Engines made with them are not affected.
MEZZO_API void mezzo_engine_options_free(mezzo_engine_options_t *options);

/// Sets the number of threads that an execution uses, the calling one included; 0, the default, leaves it to the
/// environment.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_options_set_threads(mezzo_engine_options_t *options,
                                                size_t threads);

/// Sets the device that engines of "tensorrt" and "tensorrt-rtx" are built for and executed on, numbered from 0; 0 is the default.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_options_set_device(mezzo_engine_options_t *options,
                                               size_t device);

/// Sets how many bytes the intermediate values of one execution on the CPU backend may take; 0, the default, is the
/// machine's memory. An execution that needs more ends with MEZZO_ERROR_OUT_OF_MEMORY, and the message names the node, the
/// bytes it needs, the bytes in use and the limit. Constants and inputs do not count.
///
/// An engine file does not keep the limit: it is asked for again when the engine is loaded. The TensorRT backends refuse
/// it: they have tensorrt.workspace.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_options_set_memory_limit(mezzo_engine_options_t *options,
                                                     size_t bytes);

/// Sets a callback that watches a build and can stop it. `callback` NULL takes it away again.
///
/// `release(user)` is called once, when the options are freed or another callback is set (after a build that is still
/// using it), and not if this call fails. The callback must not use the options, nor throw.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_options_set_progress(mezzo_engine_options_t *options,
                                                 mezzo_progress_callback_t callback,
                                                 void *user,
                                                 mezzo_release_callback_t release);

/// Sets an option by name.
///
/// - threads: see mezzo_engine_options_set_threads().
/// - memory_limit: see mezzo_engine_options_set_memory_limit().
/// - profile: adds a profile, the smallest, most frequent and largest shapes of dynamic inputs, as in
///   "image=1x3x224x224:8x3x224x224:32x3x224x224" (several inputs are separated by semicolons). For an input whose values
///   the model uses as a shape, the values stand in brackets: "size=[64,64]:[224,224]:[512,512]". The TensorRT backends
///   need a profile for a model with dynamic inputs; the CPU backend takes any shape.
/// - tensorrt.library: the file or folder of TensorRT, instead of the places it is looked for.
/// - tensorrt.allow_untested: true lets versions pass that are newer than the tested ones.
/// - tensorrt.workspace: the most scratch memory of an engine, in bytes.
/// - tensorrt.optimization_level: how long TensorRT's builder searches, 0 to 5.
/// - tensorrt.tf32: whether FP32 matrix products may run in TF32.
/// - trust_plan: true lets mezzo_engine_load_plan() load a plan, which is code.
/// - tensorrt.timing_cache: a file with the timings of earlier builds (the one that trtexec reads too), which makes builds
///   quicker. It is read, used, and written after the build; a file of another device or version is replaced.
/// - tensorrt.tactic_sources: where tactics may come from: cublas, cublas_lt, cudnn, edge_mask_convolutions,
///   jit_convolutions, separated by commas. What is not named is not used.
/// - tensorrt.hardware_compatibility: none, ampere_plus or same_compute_capability: where the engine runs beside the kind
///   of device it is built on.
/// - tensorrt.version_compatible: true makes an engine that other versions of the same major version run too.
/// - tensorrt.compute_capabilities: what a TensorRT-RTX engine is built for, as in "8.6,12.0", or current.
/// - tensorrt.verbosity: how much the engine tells of its layers: detailed (the default), layer_names or none.
/// - tensorrt.aux_streams: the most streams beside the main one that the engine uses, 0 to 64.
/// - tensorrt.scratch_folder: a folder through which the model goes to TensorRT's parser, as a model above 2 GB always does:
///   by default through the system's folder for temporary files.
/// - tensorrt.require_fp16: true makes it an error if layers of an FP16 model run in float.
///
/// What the version of TensorRT at hand does not have is an error of the build that names the option.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such option (the message lists all), MEZZO_ERROR_INVALID_ARGUMENT if it
/// does not take that value.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_options_set(mezzo_engine_options_t *options,
                                        const char *key,
                                        const char *value);

/// Builds an engine. The model is not needed afterwards.
///
/// env: NULL for the default environment.
/// backend: "cpu", "tensorrt" or "tensorrt-rtx".
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such backend, or its library is not installed; MEZZO_ERROR_UNSUPPORTED if it lacks operators, listing all
/// of them; MEZZO_ERROR_CANCELLED by the progress callback; MEZZO_ERROR_INVALID_MODEL; MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_build(const mezzo_env_t *env,
                                  const mezzo_model_t *model,
                                  const char *backend,
                                  const mezzo_engine_options_t *options,
                                  mezzo_engine_t **engine);

/// Writes the engine to one file, whole or not at all.
///
/// Errors: MEZZO_ERROR_IO or MEZZO_ERROR_NOT_FOUND if the place cannot be written, MEZZO_ERROR_INVALID_ARGUMENT if it is
/// a directory.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_save_file(const mezzo_engine_t *engine,
                                      const char *path);

/// Writes the plan of an engine of the TensorRT backends to a file, as TensorRT's own tools read it: without what an engine
/// file has beside it (description, checksums). Whole or not at all.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED if the backend has no plans; else as mezzo_engine_save_file().
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_save_plan(const mezzo_engine_t *engine,
                                      const char *path);

/// Loads a plan that TensorRT's own tools, or mezzo_engine_save_plan(), wrote.
///
/// A plan is code that runs in this process, and nothing guards it: the option trust_plan must be set. The library and a
/// device that can run it must be there, because nothing else knows its inputs and outputs.
///
/// env: NULL for the default environment.
/// backend: "tensorrt" or "tensorrt-rtx".
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT if trust_plan is not set; MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file cannot be
/// read or there is no library or device; MEZZO_ERROR_UNSUPPORTED if the backend has no plans or the library refuses this one.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_load_plan(const mezzo_env_t *env,
                                      const char *path,
                                      const char *backend,
                                      const mezzo_engine_options_t *options,
                                      mezzo_engine_t **engine);

/// Loads an engine that mezzo_engine_save_file() wrote. A large file is mapped and must not be changed in place while
/// the engine lives.
///
/// env: NULL for the default environment.
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND or MEZZO_ERROR_IO if the file cannot be read; MEZZO_ERROR_INVALID_FILE if it is damaged,
/// truncated or no engine; MEZZO_ERROR_VERSION if another version wrote it.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_load_file(const mezzo_env_t *env,
                                      const char *path,
                                      const mezzo_engine_options_t *options,
                                      mezzo_engine_t **engine);

/// Loads an engine from memory.
///
/// env: NULL for the default environment.
/// data, size: the content of an engine file.
/// release: NULL makes the call copy the data. Otherwise the data is borrowed, must not change, and `release(user)` is
///   called once when the engine and its contexts are gone; not if this call fails.
/// options: NULL for the defaults.
/// engine: receives the engine; give it back with mezzo_engine_free().
///
/// Errors: as mezzo_engine_load_file().
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_load_memory(const mezzo_env_t *env,
                                        const void *data,
                                        size_t size,
                                        mezzo_release_callback_t release,
                                        void *user,
                                        const mezzo_engine_options_t *options,
                                        mezzo_engine_t **engine);

/// Number of inputs; 0 for NULL.
MEZZO_API size_t mezzo_engine_input_count(const mezzo_engine_t *engine);

/// Describes an input by its place; NULL if there is no such input. Borrowed from the engine.
MEZZO_API const mezzo_io_t *mezzo_engine_input(const mezzo_engine_t *engine, size_t index);

/// Describes an input by its name.
///
/// input: receives the description, borrowed from the engine.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input; the message lists those there are.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_find_input(const mezzo_engine_t *engine,
                                       const char *name,
                                       const mezzo_io_t **input);

/// Number of outputs; 0 for NULL.
MEZZO_API size_t mezzo_engine_output_count(const mezzo_engine_t *engine);

/// Describes an output by its place; NULL if there is no such output. Borrowed from the engine.
MEZZO_API const mezzo_io_t *mezzo_engine_output(const mezzo_engine_t *engine, size_t index);

/// Describes an output by its name.
///
/// output: receives the description, borrowed from the engine.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such output; the message lists those there are.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_find_output(const mezzo_engine_t *engine,
                                        const char *name,
                                        const mezzo_io_t **output);

/// Name of the engine's backend ("cpu"); the empty string for NULL. Borrowed from the engine.
MEZZO_API const char *mezzo_engine_backend(const mezzo_engine_t *engine);

/// Version of the backend that built the engine; the empty string for NULL. Borrowed from the engine.
MEZZO_API
const char *mezzo_engine_backend_version(const mezzo_engine_t *engine);

/// Bytes of the engine's constants, in their declared types; 0 for NULL.
MEZZO_API uint64_t mezzo_engine_weight_bytes(const mezzo_engine_t *engine);

/// Peak bytes of intermediate tensors of one execution, if all shapes are fixed; -1 if it is not known, and for NULL.
///
/// The CPU backend finds it out by an execution on zeros, when it is first asked: the call takes as long. For models with
/// loops it is not known.
MEZZO_API
int64_t mezzo_engine_activation_bytes(const mezzo_engine_t *engine);

/// Number of nodes (layers) of the engine; 0 for NULL.
MEZZO_API uint64_t mezzo_engine_node_count(const mezzo_engine_t *engine);

/// Nodes (layers) that compute on FP16 or BF16 tensors; 0 for NULL.
MEZZO_API uint64_t mezzo_engine_half_nodes(const mezzo_engine_t *engine);

/// Nodes (layers) that compute on FP32 or FP64 tensors; 0 for NULL.
MEZZO_API uint64_t mezzo_engine_float_nodes(const mezzo_engine_t *engine);

/// The engine's own layers as JSON, for people and tools; what is in it depends on the backend. Borrowed from the
/// engine; the empty string for NULL.
MEZZO_API
const char *mezzo_engine_inspect_json(const mezzo_engine_t *engine);

/// Makes a random value for an input: floats from -1 to 1, integers 0 or 1. The same seed gives the same value.
///
/// name: of the input.
/// dims, rank: the shape; NULL and 0 take the declared one with 1 for every dynamic dimension.
/// value: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input, MEZZO_ERROR_SHAPE_MISMATCH if its rank is not known and no
/// shape is given, MEZZO_ERROR_UNSUPPORTED if it is no tensor of numbers.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_engine_random_input(const mezzo_engine_t *engine,
                                         const char *name,
                                         const int64_t *dims,
                                         size_t rank,
                                         uint64_t seed,
                                         mezzo_value_t **value);

/// One more reference to the same engine, to be given back with mezzo_engine_free(). NULL for NULL.
MEZZO_API mezzo_engine_t *mezzo_engine_retain(const mezzo_engine_t *engine);

/// Gives a reference back. NULL is allowed. Contexts keep their engine alive.
MEZZO_API void mezzo_engine_free(mezzo_engine_t *engine);

/// A new flag that is not set. Give it back with mezzo_cancel_free().
MEZZO_API mezzo_cancel_t *mezzo_cancel_new(void);

/// Sets the flag: runs that use it stop before their next node with MEZZO_ERROR_CANCELLED. Safe from any thread and from
/// signal handlers. NULL is allowed.
MEZZO_API
void mezzo_cancel_request(const mezzo_cancel_t *cancel);

/// Takes the flag back, so that it can be used for another run. NULL is allowed.
MEZZO_API void mezzo_cancel_reset(const mezzo_cancel_t *cancel);

/// Whether the flag is set; false for NULL.
MEZZO_API bool mezzo_cancel_is_requested(const mezzo_cancel_t *cancel);

/// One more reference to the same flag, to be given back with mezzo_cancel_free(). NULL for NULL.
MEZZO_API mezzo_cancel_t *mezzo_cancel_retain(const mezzo_cancel_t *cancel);

/// Gives a reference back. NULL is allowed. Options and runs that use the flag are not affected.
MEZZO_API void mezzo_cancel_free(mezzo_cancel_t *cancel);

/// New options: no cancel flag, no tap. Free them with mezzo_run_options_free().
MEZZO_API mezzo_run_options_t *mezzo_run_options_new(void);

/// Frees options. NULL is allowed. Not while a run uses them.
MEZZO_API void mezzo_run_options_free(mezzo_run_options_t *options);

/// Sets the flag that stops runs. NULL takes it away again.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_run_options_set_cancel(mezzo_run_options_t *options,
                                            const mezzo_cancel_t *cancel);

/// Sets a callback that sees every intermediate tensor. `callback` NULL takes it away again. A run with a tap is slower:
/// it computes what is otherwise fused.
///
/// `release(user)` is called once, when the options are freed or another callback is set, and not if this call fails.
/// The callback is called from one thread at a time; it must not use the context that runs, nor throw.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_run_options_set_tap(mezzo_run_options_t *options,
                                         mezzo_tap_callback_t callback,
                                         void *user,
                                         mezzo_release_callback_t release);

/// Opens a context.
///
/// context: receives the context; free it with mezzo_context_free().
///
/// Errors: MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_new(const mezzo_engine_t *engine,
                                 mezzo_context_t **context);

/// Sets the shape of an input that a buffer is bound to. (A bound value brings its own shape.)
///
/// name: of the input.
/// dims, rank: the shape; it must fit what mezzo_engine_input() declares.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input, MEZZO_ERROR_SHAPE_MISMATCH if the shape does not fit.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_set_input_shape(mezzo_context_t *context,
                                             const char *name,
                                             const int64_t *dims,
                                             size_t rank);

/// Binds a value to an input, or memory for the result to an output. The context holds on to the value's memory, not to
/// the handle, which may be freed. The memory is read, or written, by each run until something else is bound.
///
/// An output needs no binding: a run allocates what is not bound.
///
/// name: of the input or output.
/// value: of the declared type and a fitting shape; for an output, a tensor.
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_TYPE_MISMATCH, MEZZO_ERROR_SHAPE_MISMATCH.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_bind(mezzo_context_t *context,
                                  const char *name,
                                  const mezzo_value_t *value);

/// Binds bytes of a buffer to an input or output, in the type that the engine declares. The context keeps the buffer
/// alive until something else is bound.
///
/// The shape of an input must be fixed, or set with mezzo_context_set_input_shape() before the run. A result that does
/// not fit an output's buffer makes the run fail.
///
/// name: of the input or output.
/// offset: where the tensor starts, in bytes.
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_SIZE_MISMATCH, MEZZO_ERROR_TYPE_MISMATCH if it is no dense tensor.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_bind_buffer(mezzo_context_t *context,
                                         const char *name,
                                         const mezzo_buffer_t *buffer,
                                         size_t offset);

/// Takes away what is bound to an input or output, and an input's shape.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such input or output.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_unbind(mezzo_context_t *context,
                                    const char *name);

/// Checks what is bound (names, types, ranks, dimensions, sizes), runs, and returns when the outputs are there. If it
/// fails, the results of the run before stay, but memory bound to outputs may have been written.
///
/// options: NULL for the defaults.
///
/// Errors: MEZZO_ERROR_INVALID_STATE if an input is not bound; MEZZO_ERROR_SHAPE_MISMATCH if a dynamic shape is not set or
/// shapes contradict each other; MEZZO_ERROR_SIZE_MISMATCH if a buffer is too small; MEZZO_ERROR_EXECUTION if the data
/// makes an operator fail; MEZZO_ERROR_CANCELLED; MEZZO_ERROR_BUSY; MEZZO_ERROR_OUT_OF_MEMORY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_run(mezzo_context_t *context,
                                 const mezzo_run_options_t *options);

/// Checks what is bound, enqueues an execution on a stream, and returns without waiting for it. For engines of "tensorrt" and
/// "tensorrt-rtx".
///
/// Inputs, and outputs that are bound, lie in memory of the engine's device (mezzo_buffer_new_device(), or borrowed), except inputs
/// whose values are a shape, which lie on the host. An output that is not bound gets new device memory in each call. While
/// nothing is bound anew, later calls skip the checks.
///
/// What the work uses stays alive until it is done, whatever is freed or bound meanwhile; the memory of inputs must not be
/// written before. Executions of one context follow one another on the device, on whatever streams they are enqueued. Outputs
/// whose size only the data decides make the call wait for the device, and are copied to where they are bound; where too little
/// is bound, the call fails with MEZZO_ERROR_SIZE_MISMATCH after the execution. The stream may be captured into a graph by the
/// caller; the context and what is bound must then outlive the graph.
///
/// Errors: those of mezzo_context_run() before anything is enqueued; MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu", and
/// during a capture if the data decides the size of an output;
/// MEZZO_ERROR_INVALID_ARGUMENT for memory on the host or on another device.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_enqueue(mezzo_context_t *context,
                                     const mezzo_stream_t *stream);

/// Turns the capture of enqueued executions as CUDA graphs on or off; it is off at first. With it, the second enqueue with the same
/// bindings captures the execution and later ones replay it, which costs the host less. Binding anew, or another shape, starts
/// over. Bind every output.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu".
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_set_cuda_graph(mezzo_context_t *context,
                                            bool on);

/// Counts what the option of mezzo_context_set_cuda_graph() did: whether executions really are replayed.
///
/// captured: receives how many executions were captured; may be NULL.
/// replayed: receives how many were launched from a capture; may be NULL.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_BUSY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_graph_counts(mezzo_context_t *context,
                                          uint64_t *captured,
                                          uint64_t *replayed);

/// Turns the measurement of each layer on or off; it is off at first. Executions wait for the device while it is on.
///
/// Errors: MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu".
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_set_profiling(mezzo_context_t *context,
                                           bool on);

/// Calls back, from this thread, for each layer of the executions since the last call, in order. Profiling must be on, and the
/// executions done.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT, MEZZO_ERROR_BUSY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_layer_times(mezzo_context_t *context,
                                         mezzo_layer_time_callback_t callback,
                                         void *user);

/// Gives an output of the last run, as a new value. It shares the memory that was bound, or the memory that the run
/// allocated, which later runs leave alone.
///
/// name: of the output.
/// value: receives the value; free it with mezzo_value_free().
///
/// Errors: MEZZO_ERROR_NOT_FOUND, MEZZO_ERROR_INVALID_STATE if the context has not run.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_output(mezzo_context_t *context,
                                    const char *name,
                                    mezzo_value_t **value);

/// Gives the shape of an output: what the input shapes decide, or else that of the last run's result.
///
/// name: of the output.
/// dims, capacity: room for `capacity` dimensions; NULL and 0 ask for the rank only.
/// rank: receives the number of dimensions.
///
/// Errors: MEZZO_ERROR_NOT_FOUND; MEZZO_ERROR_INVALID_STATE if the shape is not known yet; MEZZO_ERROR_SIZE_MISMATCH if
/// there is not room enough.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_output_shape(mezzo_context_t *context,
                                          const char *name,
                                          int64_t *dims,
                                          size_t capacity,
                                          size_t *rank);

/// Gives the peak bytes of intermediate tensors of the last run; -1 if that is not known.
///
/// Errors: MEZZO_ERROR_BUSY.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_activation_bytes(mezzo_context_t *context,
                                              int64_t *bytes);

/// Frees a context; what is bound to it is released. NULL is allowed. If another thread's run is under way, that run
/// ends first.
MEZZO_API
void mezzo_context_free(mezzo_context_t *context);

/// Makes empty memory, which grows when contexts are opened on it. Give it back with mezzo_context_memory_free().
///
/// device: the device's number, from 0.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if there is no such device or no driver.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_memory_new(size_t device,
                                        mezzo_context_memory_t **memory);

/// How many bytes of device memory it has by now; 0 for NULL.
MEZZO_API size_t mezzo_context_memory_byte_size(const mezzo_context_memory_t *memory);

/// Opens a context whose activations lie in shared memory, which grows if the engine needs more than it has. For engines of
/// "tensorrt" and "tensorrt-rtx". Such a context cannot be captured into a graph of the caller's; its own option
/// (mezzo_context_set_cuda_graph()) works.
///
/// memory: of the engine's device; the context keeps it alive.
/// context: receives the context; free it with mezzo_context_free().
///
/// Errors: those of mezzo_context_new(); MEZZO_ERROR_UNSUPPORTED for engines of the backend "cpu" and for TensorRT 10.0;
/// MEZZO_ERROR_INVALID_ARGUMENT if the engine runs on another device.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_new_sharing(const mezzo_engine_t *engine,
                                         const mezzo_context_memory_t *memory,
                                         mezzo_context_t **context);

/// Gives it back; NULL does nothing. The memory lives as long as a context uses it.
MEZZO_API void mezzo_context_memory_free(mezzo_context_memory_t *memory);

/// Makes an empty pool; contexts are opened when they are needed. Give it back with mezzo_context_pool_free().
///
/// most: contexts that may be leased at once, at least 1.
///
/// Errors: MEZZO_ERROR_INVALID_ARGUMENT.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_pool_new(const mezzo_engine_t *engine,
                                      size_t most,
                                      mezzo_context_pool_t **pool);

/// Leases a context that nobody else uses, with nothing bound to it. Waits while all are leased.
///
/// timeout_ms: how long to wait, in milliseconds; 0 does not wait, a negative number waits as long as it takes.
/// context: receives the context. Give it back with mezzo_context_pool_release(), or keep it and free it with mezzo_context_free() after
///   the pool was freed.
///
/// Errors: MEZZO_ERROR_BUSY if none came free in time; those of mezzo_context_new().
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_pool_acquire(const mezzo_context_pool_t *pool,
                                          int64_t timeout_ms,
                                          mezzo_context_t **context);

/// Gives a leased context back, which must not be used afterwards. What is bound to it is unbound; work that it has enqueued goes on.
///
/// Errors: MEZZO_ERROR_NOT_FOUND if it is not leased from this pool; MEZZO_ERROR_BUSY if another thread still uses it.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_context_pool_release(const mezzo_context_pool_t *pool,
                                          mezzo_context_t *context);

/// Contexts that are leased now; 0 for NULL.
MEZZO_API size_t mezzo_context_pool_leased(const mezzo_context_pool_t *pool);

/// Frees a pool and the contexts that are in it. Leased ones live on as the caller's. NULL is allowed.
MEZZO_API
void mezzo_context_pool_free(mezzo_context_pool_t *pool);

/// Runs two engines on the same inputs and compares their outputs.
///
/// Inputs and outputs of the two go together by name, or by place where names differ. A float input is converted to the
/// type that each engine expects, so that one set of values serves an FP32 and an FP16 engine; outputs are compared as
/// numbers.
///
/// a: the engine that is taken as right (FP32, say).
/// b: the engine that is judged.
/// names, values, count: the inputs: `count` names as A has them and as many values.
/// comparison: receives the result; free it with mezzo_comparison_free().
///
/// Errors: those of mezzo_context_bind() and mezzo_context_run(); MEZZO_ERROR_SHAPE_MISMATCH if shapes of outputs differ.
MEZZO_API
MEZZO_NODISCARD
mezzo_error_t *mezzo_compare(const mezzo_engine_t *a,
                             const mezzo_engine_t *b,
                             const char *const *names,
                             const mezzo_value_t *const *values,
                             size_t count,
                             mezzo_comparison_t **comparison);

/// Number of outputs compared; 0 for NULL.
MEZZO_API size_t mezzo_comparison_count(const mezzo_comparison_t *comparison);

/// Name of an output in A; empty if there is no such output. Borrowed from the comparison.
MEZZO_API const char *mezzo_comparison_name(const mezzo_comparison_t *comparison, size_t index);

/// Number of elements of an output; 0 if there is no such output.
MEZZO_API size_t mezzo_comparison_elements(const mezzo_comparison_t *comparison, size_t index);

/// Largest difference between elements that are finite in both; NaN if there is no such output.
MEZZO_API double mezzo_comparison_max_abs(const mezzo_comparison_t *comparison, size_t index);

/// Largest difference divided by the largest magnitude in A; infinite if A is all zero and B is not; NaN if there is no
/// such output.
MEZZO_API
double mezzo_comparison_max_rel(const mezzo_comparison_t *comparison,
                                size_t index);

/// Root of the mean square of the differences; NaN if there is no such output.
MEZZO_API double mezzo_comparison_rms(const mezzo_comparison_t *comparison, size_t index);

/// Cosine of the angle between the outputs as vectors: 1 if they point the same way; NaN if there is no such output.
MEZZO_API
double mezzo_comparison_cosine(const mezzo_comparison_t *comparison,
                               size_t index);

/// Elements of A that are NaN; 0 if there is no such output.
MEZZO_API size_t mezzo_comparison_nan_a(const mezzo_comparison_t *comparison, size_t index);

/// Elements of B that are NaN; 0 if there is no such output.
MEZZO_API size_t mezzo_comparison_nan_b(const mezzo_comparison_t *comparison, size_t index);

/// Elements of A that are infinite; 0 if there is no such output.
MEZZO_API size_t mezzo_comparison_inf_a(const mezzo_comparison_t *comparison, size_t index);

/// Elements of B that are infinite; 0 if there is no such output.
MEZZO_API size_t mezzo_comparison_inf_b(const mezzo_comparison_t *comparison, size_t index);

/// Elements that are NaN, or the same infinity, in one of the two only; 0 if there is no such output.
MEZZO_API
size_t mezzo_comparison_non_finite_mismatches(const mezzo_comparison_t *comparison,
                                              size_t index);

/// Share (0 to 1) of the rows along the last dimension whose largest element is at the same place; NaN if the output has
/// no rows of at least two elements, or there is no such output.
MEZZO_API
double mezzo_comparison_top1_agreement(const mezzo_comparison_t *comparison,
                                       size_t index);

/// The whole comparison as JSON, borrowed from it; the empty string for NULL.
MEZZO_API const char *mezzo_comparison_to_json(const mezzo_comparison_t *comparison);

/// Frees a comparison and everything borrowed from it. NULL is allowed.
MEZZO_API void mezzo_comparison_free(mezzo_comparison_t *comparison);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MEZZO_MEZZO_H */
