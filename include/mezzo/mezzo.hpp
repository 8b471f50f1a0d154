/// Mezzo for C++17: owning, move-only types over the C API of mezzo.h. Header only.
///
/// Nothing throws (but std::bad_alloc), and neither exceptions nor RTTI are needed. What can fail returns
/// mezzo::Result<T>: look at ok() first, for value() on an error prints the error's message and aborts.
///
///     auto model = mezzo::Model::load("model.onnx");
///     if (!model) return fail(model.error().message());
///     auto half = model.value().convert();
///
/// Objects keep alive what they need, as in C: a context its engine, a value its buffer. Io descriptions and strings are
/// borrowed from the object they were asked of. A moved-from object is empty; using it is an error, not a crash.
#ifndef MEZZO_MEZZO_HPP
#define MEZZO_MEZZO_HPP

#include <mezzo/mezzo.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace mezzo {

/// Element types that C++ code handles most; any other MEZZO_DTYPE_* can be cast to it.
enum class DType : mezzo_dtype_t {
    None = MEZZO_DTYPE_NONE,
    FP32 = MEZZO_DTYPE_FP32,
    UInt8 = MEZZO_DTYPE_UINT8,
    Int8 = MEZZO_DTYPE_INT8,
    UInt16 = MEZZO_DTYPE_UINT16,
    Int16 = MEZZO_DTYPE_INT16,
    Int32 = MEZZO_DTYPE_INT32,
    Int64 = MEZZO_DTYPE_INT64,
    String = MEZZO_DTYPE_STRING,
    Bool = MEZZO_DTYPE_BOOL,
    FP16 = MEZZO_DTYPE_FP16,
    FP64 = MEZZO_DTYPE_FP64,
    UInt32 = MEZZO_DTYPE_UINT32,
    UInt64 = MEZZO_DTYPE_UINT64,
    BF16 = MEZZO_DTYPE_BF16,
};

/// The bits of an IEEE 754 half.
struct Half {
    std::uint16_t bits;
};

/// The bits of a bfloat16.
struct BFloat16 {
    std::uint16_t bits;
};

/// The data type of a C++ type: dtype_of<float>() is DType::FP32.
template <class T> constexpr DType dtype_of() {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<U, float>) return DType::FP32;
    else if constexpr (std::is_same_v<U, double>) return DType::FP64;
    else if constexpr (std::is_same_v<U, Half>) return DType::FP16;
    else if constexpr (std::is_same_v<U, BFloat16>) return DType::BF16;
    else if constexpr (std::is_same_v<U, bool>) return DType::Bool;
    else if constexpr (std::is_integral_v<U> && std::is_signed_v<U>)
        return sizeof(U) == 1 ? DType::Int8 : sizeof(U) == 2 ? DType::Int16 : sizeof(U) == 4 ? DType::Int32 : DType::Int64;
    else if constexpr (std::is_integral_v<U>)
        return sizeof(U) == 1   ? DType::UInt8
               : sizeof(U) == 2 ? DType::UInt16
               : sizeof(U) == 4 ? DType::UInt32
                                : DType::UInt64;
    else static_assert(!sizeof(U), "Mezzo has no tensors of this type");
}

/// The dimensions of a tensor, outermost first.
using Shape = std::vector<std::int64_t>;

/// A view of elements that lie in a row.
template <class T> class Span {
public:
    Span() = default;
    Span(T *data, std::size_t size) : data_(data), size_(size) {}
    T *data() const { return data_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T &operator[](std::size_t i) const { return data_[i]; }
    T *begin() const { return data_; }
    T *end() const { return data_ + size_; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {

/// An owning pointer to a handle.
template <class T, void (*Free)(T *)> struct Deleter {
    void operator()(T *handle) const { Free(handle); }
};
template <class T, void (*Free)(T *)> using Owned = std::unique_ptr<T, Deleter<T, Free>>;

/// A std::function that C owns as `user`, with what deletes it.
template <class F> void delete_function(void *user) { delete static_cast<F *>(user); }

} // namespace detail

/// What went wrong.
class [[nodiscard]] Error {
public:
    /// Takes over a C error.
    explicit Error(mezzo_error_t *error) : error_(error) {}
    /// One of MEZZO_ERROR_*.
    mezzo_error_code_t code() const { return mezzo_error_code(error_.get()); }
    /// One of MEZZO_DOMAIN_*.
    mezzo_error_domain_t domain() const { return mezzo_error_domain(error_.get()); }
    /// The code of the layer below (errno, ...), or 0.
    std::int64_t native_code() const { return mezzo_error_native_code(error_.get()); }
    /// What was expected, what was given, and how to mend it.
    const char *message() const { return mezzo_error_message(error_.get()); }

private:
    detail::Owned<mezzo_error_t, mezzo_error_free> error_;
};

namespace detail {
[[noreturn]] inline void abort_with(const Error &error) {
    std::fprintf(stderr, "mezzo: value() of a failed result: %s\n", error.message());
    std::abort();
}
} // namespace detail

/// A value, or the error that came instead.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    /// The value; on an error, prints its message and aborts.
    T &value() & { return check(), *std::get_if<0>(&state_); }
    const T &value() const & { return check(), *std::get_if<0>(&state_); }
    T &&value() && { return check(), std::move(*std::get_if<0>(&state_)); }
    T value_or(T other) && { return ok() ? std::move(*std::get_if<0>(&state_)) : std::move(other); }

    /// The error; only if !ok().
    const Error &error() const & { return *std::get_if<1>(&state_); }
    Error &&error() && { return std::move(*std::get_if<1>(&state_)); }

private:
    void check() const {
        if (!ok()) detail::abort_with(error());
    }
    std::variant<T, Error> state_;
};

/// Success, or an error.
template <> class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    bool ok() const { return !error_.has_value(); }
    explicit operator bool() const { return ok(); }
    /// On an error, prints its message and aborts.
    void value() const {
        if (error_) detail::abort_with(*error_);
    }
    /// The error; only if !ok().
    const Error &error() const & { return *error_; }
    Error &&error() && { return std::move(*error_); }

private:
    std::optional<Error> error_;
};

using Status = Result<void>;

namespace detail {
inline Status status(mezzo_error_t *error) { return error ? Status(Error(error)) : Status(); }

/// The base of all objects: owns a handle.
template <class H, void (*Free)(H *)> class Object {
public:
    using Handle = H;
    /// The C handle, borrowed.
    H *get() const { return handle_.get(); }
    /// True unless the object is empty (moved from).
    explicit operator bool() const { return handle_ != nullptr; }
    /// Gives the C handle away; the caller frees it.
    H *release() { return handle_.release(); }

protected:
    explicit Object(H *handle) : handle_(handle) {}

private:
    Owned<H, Free> handle_;
};

/// Makes an object of the handle that `f` writes.
template <class T, class F> Result<T> make(F &&f) {
    typename T::Handle *handle = nullptr;
    if (mezzo_error_t *error = f(&handle)) return Error(error);
    return T(handle);
}
} // namespace detail

/// Checks that the library at hand goes with this header.
inline Status check_version() { return detail::status(MEZZO_CHECK_VERSION()); }

/// What an environment is made of.
class EnvOptions : public detail::Object<mezzo_env_options_t, mezzo_env_options_free> {
public:
    using Log = std::function<void(mezzo_log_level_t level, const char *message)>;

    EnvOptions() : Object(mezzo_env_options_new()) {}
    /// Sets where log lines go; called from any thread.
    Status log(Log log) {
        auto user = std::make_unique<Log>(std::move(log));
        auto call = [](void *u, mezzo_log_level_t level, const char *line) { (*static_cast<Log *>(u))(level, line); };
        auto status = detail::status(mezzo_env_options_set_log(get(), call, user.get(), detail::delete_function<Log>));
        if (status) user.release();
        return status;
    }
    Status log_level(mezzo_log_level_t level) { return detail::status(mezzo_env_options_set_log_level(get(), level)); }
    Status threads(std::size_t threads) { return detail::status(mezzo_env_options_set_threads(get(), threads)); }
    Status cache_dir(const std::string &path) {
        return detail::status(mezzo_env_options_set_cache_dir(get(), path.c_str()));
    }
    Status library_path(const std::string &path) {
        return detail::status(mezzo_env_options_add_library_path(get(), path.c_str()));
    }
    Status set(const std::string &key, const std::string &value) {
        return detail::status(mezzo_env_options_set(get(), key.c_str(), value.c_str()));
    }
};

/// Log, allocator, threads and paths. An empty one (Env()) stands for the default environment.
class Env : public detail::Object<mezzo_env_t, mezzo_env_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Env(mezzo_env_t *handle = nullptr) : Object(handle) {}
    static Result<Env> create(const EnvOptions &options) {
        return detail::make<Env>([&](mezzo_env_t **out) { return mezzo_env_new(options.get(), out); });
    }
};

/// A CUDA device, numbered from 0. Borrowed: it lives until the process ends.
class Device {
public:
    static Result<std::size_t> count() {
        std::size_t count = 0;
        if (auto *error = mezzo_device_count(&count)) return Error(error);
        return count;
    }
    static Result<Device> get(std::size_t index) {
        const mezzo_device_t *device = nullptr;
        if (auto *error = mezzo_device_get(index, &device)) return Error(error);
        return Device(device);
    }
    const char *name() const { return mezzo_device_name(device_); }
    std::uint64_t memory() const { return mezzo_device_memory(device_); }
    /// Major * 10 + minor: 90 is 9.0.
    unsigned compute_capability() const { return mezzo_device_compute_capability(device_); }
    unsigned multiprocessors() const { return mezzo_device_multiprocessors(device_); }
    /// Lowest and highest priority of streams; a smaller number is a higher priority.
    Result<std::pair<std::int32_t, std::int32_t>> stream_priorities() const {
        std::int32_t lowest = 0, highest = 0;
        if (auto *error = mezzo_device_stream_priorities(device_, &lowest, &highest)) return Error(error);
        return std::make_pair(lowest, highest);
    }
    Result<std::uint64_t> free_memory() const {
        std::uint64_t bytes = 0;
        if (auto *error = mezzo_device_free_memory(device_, &bytes)) return Error(error);
        return bytes;
    }

private:
    explicit Device(const mezzo_device_t *device) : device_(device) {}
    const mezzo_device_t *device_;
};

class Stream;

/// A place in the work of a stream.
class Event : public detail::Object<mezzo_event_t, mezzo_event_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Event(mezzo_event_t *handle = nullptr) : Object(handle) {}
    static Result<Event> create(std::size_t device = 0, bool timing = false) {
        return detail::make<Event>([&](mezzo_event_t **out) { return mezzo_event_new(device, timing, out); });
    }
    inline Status record(const Stream &stream);
    Status synchronize() const { return detail::status(mezzo_event_synchronize(get())); }
    Result<bool> is_done() const {
        bool done = false;
        if (auto *error = mezzo_event_is_done(get(), &done)) return Error(error);
        return done;
    }
    void *cuda() const { return mezzo_event_cuda(get()); }
    /// Milliseconds on the device from this event to `end`.
    Result<float> elapsed(const Event &end) const {
        float ms = 0;
        if (auto *error = mezzo_event_elapsed(get(), end.get(), &ms)) return Error(error);
        return ms;
    }
};

/// A CUDA stream, of the library's or the caller's.
class Stream : public detail::Object<mezzo_stream_t, mezzo_stream_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Stream(mezzo_stream_t *handle = nullptr) : Object(handle) {}
    static Result<Stream> create(std::size_t device = 0, std::int32_t priority = 0) {
        return detail::make<Stream>([&](mezzo_stream_t **out) { return mezzo_stream_new(device, priority, out); });
    }
    /// A `CUstream` or `cudaStream_t` of the caller's, which outlives this.
    static Result<Stream> wrap(void *cuda_stream, std::size_t device = 0) {
        return detail::make<Stream>(
            [&](mezzo_stream_t **out) { return mezzo_stream_from_cuda(device, cuda_stream, out); });
    }
    void *cuda() const { return mezzo_stream_cuda(get()); }
    Status synchronize() const { return detail::status(mezzo_stream_synchronize(get())); }
    Result<bool> is_done() const {
        bool done = false;
        if (auto *error = mezzo_stream_is_done(get(), &done)) return Error(error);
        return done;
    }
    Status wait(const Event &event) const { return detail::status(mezzo_stream_wait_event(get(), event.get())); }
};

inline Status Event::record(const Stream &stream) { return detail::status(mezzo_event_record(get(), stream.get())); }

/// A block of memory, on the host or on a device.
class Buffer : public detail::Object<mezzo_buffer_t, mezzo_buffer_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Buffer(mezzo_buffer_t *handle = nullptr) : Object(handle) {}
    /// Zeroed memory.
    static Result<Buffer> allocate(std::size_t size, const Env &env = Env()) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) { return mezzo_buffer_new(env.get(), size, out); });
    }
    /// The caller's memory, without a copy; `release` runs when nothing uses it any more.
    static Result<Buffer> wrap(void *data, std::size_t size, std::function<void()> release = {}) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) {
            return lend(std::move(release), [&](mezzo_release_callback_t call, void *user) {
                return mezzo_buffer_from_memory(data, size, call, user, out);
            });
        });
    }
    /// Memory of a device, whose content is not defined.
    static Result<Buffer> on_device(std::size_t size, std::size_t device = 0) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) { return mezzo_buffer_new_device(device, size, out); });
    }
    /// Memory in the order of a stream.
    static Result<Buffer> on_stream(std::size_t size, const Stream &stream) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) { return mezzo_buffer_new_async(stream.get(), size, out); });
    }
    /// Pinned host memory.
    static Result<Buffer> pinned(std::size_t size, std::size_t device = 0) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) { return mezzo_buffer_new_pinned(device, size, out); });
    }
    /// The caller's device memory, without a copy; `release` runs when nothing uses it any more.
    static Result<Buffer> wrap_device(void *address, std::size_t size, std::size_t device = 0,
                                      std::function<void()> release = {}) {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) {
            return lend(std::move(release), [&](mezzo_release_callback_t call, void *user) {
                return mezzo_buffer_from_device_memory(device, address, size, call, user, out);
            });
        });
    }
    /// The device in whose memory it lies; -1 for host memory.
    int device() const { return mezzo_buffer_device(get()); }
    /// Copies from another buffer of any kind in the order of a stream.
    Status copy_async(std::size_t offset, const Buffer &from, std::size_t from_offset, std::size_t size,
                      const Stream &stream) {
        return detail::status(
            mezzo_buffer_copy_async(get(), offset, from.get(), from_offset, size, stream.get()));
    }
    /// Sets bytes of device memory in the order of a stream.
    Status fill_async(std::size_t offset, std::uint8_t value, std::size_t size, const Stream &stream) {
        return detail::status(mezzo_buffer_fill_async(get(), offset, value, size, stream.get()));
    }
    /// Converts floats of another buffer on the device, in the order of a stream: FP32 to FP16 or BF16 or back.
    Status convert_async(std::size_t offset, DType dtype, const Buffer &from, std::size_t from_offset, DType from_dtype,
                         std::size_t count, const Stream &stream) {
        return detail::status(mezzo_buffer_convert_async(get(), offset, static_cast<mezzo_dtype_t>(dtype), from.get(), from_offset,
                                                         static_cast<mezzo_dtype_t>(from_dtype), count, stream.get()));
    }
    std::size_t size() const { return mezzo_buffer_size(get()); }
    void *data() const { return mezzo_buffer_data(get()); }
    Status copy_in(std::size_t offset, const void *data, std::size_t size) {
        return detail::status(mezzo_buffer_copy_in(get(), offset, data, size));
    }
    Status copy_out(std::size_t offset, void *data, std::size_t size) const {
        return detail::status(mezzo_buffer_copy_out(get(), offset, data, size));
    }

    /// Calls `f` with a C callback that runs `release` and deletes it; keeps it if `f` fails.
    template <class F> static mezzo_error_t *lend(std::function<void()> release, F &&f) {
        if (!release) return f(nullptr, nullptr);
        auto user = std::make_unique<std::function<void()>>(std::move(release));
        auto call = [](void *u) {
            std::unique_ptr<std::function<void()>> owned(static_cast<std::function<void()> *>(u));
            (*owned)();
        };
        mezzo_error_t *error = f(call, user.get());
        if (!error) user.release();
        return error;
    }
};

/// A tensor, string tensor, sequence or optional.
class Value : public detail::Object<mezzo_value_t, mezzo_value_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Value(mezzo_value_t *handle = nullptr) : Object(handle) {}
    /// A tensor of zeros.
    static Result<Value> tensor(DType dtype, const Shape &shape, const Env &env = Env()) {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_value_new_tensor(env.get(), raw(dtype), shape.data(), shape.size(), out);
        });
    }
    /// A tensor with a copy of the elements.
    template <class T> static Result<Value> copy(const Shape &shape, const T *data, std::size_t count, const Env &env = Env()) {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_value_new_copy(env.get(), raw(dtype_of<T>()), shape.data(), shape.size(), data, count * sizeof(T),
                                        out);
        });
    }
    template <class T> static Result<Value> copy(const Shape &shape, const std::vector<T> &data, const Env &env = Env()) {
        return copy(shape, data.data(), data.size(), env);
    }
    /// A tensor over the caller's memory; `release` runs when nothing uses it any more.
    static Result<Value> wrap(DType dtype, const Shape &shape, void *data, std::size_t size,
                              std::function<void()> release = {}) {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return Buffer::lend(std::move(release), [&](mezzo_release_callback_t call, void *user) {
                return mezzo_value_from_memory(raw(dtype), shape.data(), shape.size(), data, size, call, user, out);
            });
        });
    }
    /// A tensor over a part of a buffer.
    static Result<Value> over(const Buffer &buffer, std::size_t offset, DType dtype, const Shape &shape) {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_value_from_buffer(buffer.get(), offset, raw(dtype), shape.data(), shape.size(), out);
        });
    }
    static Result<Value> strings(const Shape &shape, const std::vector<std::string> &strings) {
        std::vector<const char *> data;
        std::vector<std::size_t> sizes;
        for (const auto &s : strings) {
            data.push_back(s.data());
            sizes.push_back(s.size());
        }
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_value_new_strings(shape.data(), shape.size(), data.data(), sizes.data(), data.size(), out);
        });
    }
    static Result<Value> sequence(const std::vector<const Value *> &members) {
        std::vector<const mezzo_value_t *> handles;
        for (const Value *m : members) handles.push_back(m ? m->get() : nullptr);
        return detail::make<Value>(
            [&](mezzo_value_t **out) { return mezzo_value_new_sequence(handles.data(), handles.size(), out); });
    }
    static Result<Value> optional(const Value *content) {
        return detail::make<Value>(
            [&](mezzo_value_t **out) { return mezzo_value_new_optional(content ? content->get() : nullptr, out); });
    }

    /// One of MEZZO_KIND_*.
    mezzo_kind_t kind() const { return mezzo_value_kind(get()); }
    DType dtype() const { return static_cast<DType>(mezzo_value_dtype(get())); }
    Shape shape() const {
        const std::int64_t *dims = mezzo_value_dims(get());
        return dims ? Shape(dims, dims + mezzo_value_rank(get())) : Shape();
    }
    /// Elements of a tensor, members of a sequence, 1 or 0 for an optional.
    std::size_t count() const { return mezzo_value_count(get()); }
    std::size_t byte_size() const { return mezzo_value_byte_size(get()); }
    void *data() const { return mezzo_value_data(get()); }
    /// The elements, if they are of that type; an empty optional otherwise.
    template <class T> std::optional<Span<T>> as() const {
        if (dtype() != dtype_of<T>() || kind() != MEZZO_KIND_TENSOR) return std::nullopt;
        return Span<T>(static_cast<T *>(data()), count());
    }
    Status copy_in(const void *data, std::size_t size) { return detail::status(mezzo_value_copy_in(get(), data, size)); }
    Status copy_out(void *data, std::size_t size) const {
        return detail::status(mezzo_value_copy_out(get(), data, size));
    }
    /// One string of a string tensor, borrowed.
    Result<std::string_view> string(std::size_t index) const {
        const char *data = nullptr;
        std::size_t size = 0;
        if (auto *error = mezzo_value_string(get(), index, &data, &size)) return Error(error);
        return std::string_view(data, size);
    }
    /// A member of a sequence, or the content of an optional.
    Result<Value> member(std::size_t index) const {
        return detail::make<Value>([&](mezzo_value_t **out) { return mezzo_value_member(get(), index, out); });
    }
    /// The same numbers in another float type.
    Result<Value> to_float(DType dtype) const {
        return detail::make<Value>([&](mezzo_value_t **out) { return mezzo_value_to_float(get(), raw(dtype), out); });
    }
    /// A `DLManagedTensorVersioned` for another framework, which calls its deleter. `used_on` waits for what is on `ready_on`.
    Result<void *> to_dlpack(const Stream *ready_on = nullptr, const Stream *used_on = nullptr) const {
        void *tensor = nullptr;
        if (auto *error = mezzo_value_to_dlpack(get(), ready_on ? ready_on->get() : nullptr, used_on ? used_on->get() : nullptr, &tensor))
            return Error(error);
        return tensor;
    }
    /// Takes such a tensor of another framework without a copy; if that fails it stays the caller's.
    static Result<Value> from_dlpack(void *tensor, const Stream *ready_on = nullptr, const Stream *used_on = nullptr) {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_value_from_dlpack(tensor, ready_on ? ready_on->get() : nullptr, used_on ? used_on->get() : nullptr, out);
        });
    }
    /// A second handle to the same elements.
    Result<Value> clone() const {
        return detail::make<Value>([&](mezzo_value_t **out) { return mezzo_value_clone(get(), out); });
    }

private:
    static mezzo_dtype_t raw(DType dtype) { return static_cast<mezzo_dtype_t>(dtype); }
};

/// Description of an input or output; borrowed from the model or engine it was asked of.
class Io {
public:
    explicit Io(const mezzo_io_t *io) : io_(io) {}
    const char *name() const { return mezzo_io_name(io_); }
    /// Its type in full, for people ("fp16 [N,3,224,224]").
    const char *text() const { return mezzo_io_text(io_); }
    /// One of MEZZO_KIND_*.
    mezzo_kind_t kind() const { return mezzo_io_kind(io_); }
    DType dtype() const { return static_cast<DType>(mezzo_io_dtype(io_)); }
    /// The dimensions, -1 for dynamic ones; none if the rank is not known.
    std::optional<Shape> shape() const {
        const std::int64_t rank = mezzo_io_rank(io_);
        if (rank < 0) return std::nullopt;
        Shape shape;
        for (std::int64_t i = 0; i < rank; i++) shape.push_back(mezzo_io_dim(io_, static_cast<std::size_t>(i)));
        return shape;
    }
    /// Name of a dynamic dimension; NULL if it has none.
    const char *symbol(std::size_t index) const { return mezzo_io_dim_symbol(io_, index); }

private:
    const mezzo_io_t *io_;
};

/// How a model is loaded.
class LoadOptions : public detail::Object<mezzo_load_options_t, mezzo_load_options_free> {
public:
    LoadOptions() : Object(mezzo_load_options_new()) {}
    Status map(mezzo_map_t map) { return detail::status(mezzo_load_options_set_map(get(), map)); }
    /// Adds external data for Model::load_memory; copied, or borrowed where `release` is given.
    Status add_external(const std::string &location, const void *data, std::size_t size,
                        std::function<void()> release = {}) {
        return detail::status(Buffer::lend(std::move(release), [&](mezzo_release_callback_t call, void *user) {
            return mezzo_load_options_add_external(get(), location.c_str(), data, size, call, user);
        }));
    }
    Status external_folder(const std::string &path) {
        return detail::status(mezzo_load_options_set_external_folder(get(), path.c_str()));
    }
    Status set(const std::string &key, const std::string &value) {
        return detail::status(mezzo_load_options_set(get(), key.c_str(), value.c_str()));
    }
};

/// Runs a model on samples and keeps the range of every tensor, for ConvertOptions::calibration().
class Calibrator : public detail::Object<mezzo_calibrator_t, mezzo_calibrator_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Calibrator(mezzo_calibrator_t *handle = nullptr) : Object(handle) {}
    static Result<Calibrator> create(const class Model &model);
    /// Runs one sample: a value for each input.
    Status run(const std::vector<std::pair<std::string, const Value *>> &inputs) {
        std::vector<const char *> names;
        std::vector<const mezzo_value_t *> values;
        for (const auto &input : inputs) {
            names.push_back(input.first.c_str());
            values.push_back(input.second ? input.second->get() : nullptr);
        }
        return detail::status(mezzo_calibrator_run(get(), names.data(), values.data(), names.size()));
    }
    Status run_random(std::uint64_t seed) { return detail::status(mezzo_calibrator_run_random(get(), seed)); }
};

/// How a model is converted.
class ConvertOptions : public detail::Object<mezzo_convert_options_t, mezzo_convert_options_free> {
public:
    ConvertOptions() : Object(mezzo_convert_options_new()) {}
    Status precision(DType dtype) {
        return detail::status(mezzo_convert_options_set_precision(get(), static_cast<mezzo_dtype_t>(dtype)));
    }
    Status keep_io(bool keep) { return detail::status(mezzo_convert_options_set_keep_io(get(), keep)); }
    Status keep_io_of(const std::string &name, bool keep) {
        return detail::status(mezzo_convert_options_keep_io_of(get(), name.c_str(), keep));
    }
    Status keep_op_type(const std::string &op_type) {
        return detail::status(mezzo_convert_options_keep_op_type(get(), op_type.c_str()));
    }
    Status keep_node(const std::string &pattern) {
        return detail::status(mezzo_convert_options_keep_node(get(), pattern.c_str()));
    }
    Status keep_output(const std::string &tensor) {
        return detail::status(mezzo_convert_options_keep_output(get(), tensor.c_str()));
    }
    /// Element type of an output of an operator that ONNX does not know; see mezzo_convert_options_declare().
    Status declare(const std::string &tensor, DType dtype) {
        return detail::status(mezzo_convert_options_declare(get(), tensor.c_str(), static_cast<mezzo_dtype_t>(dtype)));
    }
    /// The version of ai.onnx that the model is brought to first; 0 leaves it.
    Status opset(std::int64_t version) { return detail::status(mezzo_convert_options_set_opset(get(), version)); }
    /// What left half's safe range on the calibrator's samples stays in FP32.
    Status calibration(const Calibrator &calibrator) {
        return detail::status(mezzo_convert_options_set_calibration(get(), calibrator.get()));
    }
    Status policy(mezzo_policy_t policy) { return detail::status(mezzo_convert_options_set_policy(get(), policy)); }
    Status constants(mezzo_constants_t constants) {
        return detail::status(mezzo_convert_options_set_constants(get(), constants));
    }
    Status min_half_share(double share) {
        return detail::status(mezzo_convert_options_set_min_half_share(get(), share));
    }
    Status set(const std::string &key, const std::string &value) {
        return detail::status(mezzo_convert_options_set(get(), key.c_str(), value.c_str()));
    }
};

/// What a conversion did. More accessors: mezzo_report_*(report.get(), ...).
class Report : public detail::Object<mezzo_report_t, mezzo_report_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Report(mezzo_report_t *handle = nullptr) : Object(handle) {}
    std::uint64_t half_nodes() const { return mezzo_report_half_nodes(get()); }
    std::uint64_t float_nodes() const { return mezzo_report_float_nodes(get()); }
    std::uint64_t half_tensors() const { return mezzo_report_half_tensors(get()); }
    std::uint64_t float_tensors() const { return mezzo_report_float_tensors(get()); }
    const char *text() const { return mezzo_report_to_text(get()); }
    const char *json() const { return mezzo_report_to_json(get()); }
};

struct Converted;

/// A model.
class Model : public detail::Object<mezzo_model_t, mezzo_model_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Model(mezzo_model_t *handle = nullptr) : Object(handle) {}
    static Result<Model> load(const std::string &path, const LoadOptions &options = {}, const Env &env = Env()) {
        return detail::make<Model>([&](mezzo_model_t **out) {
            return mezzo_model_load_file(env.get(), path.c_str(), options.get(), out);
        });
    }
    /// From memory: copied, or borrowed where `release` is given.
    static Result<Model> load_memory(const void *data, std::size_t size, std::function<void()> release = {},
                                     const LoadOptions &options = {}, const Env &env = Env()) {
        return detail::make<Model>([&](mezzo_model_t **out) {
            return Buffer::lend(std::move(release), [&](mezzo_release_callback_t call, void *user) {
                return mezzo_model_load_memory(env.get(), data, size, call, user, options.get(), out);
            });
        });
    }
    /// Writes an ONNX file; `external` is one of MEZZO_EXTERNAL_*.
    Status save(const std::string &path, mezzo_external_t external = MEZZO_EXTERNAL_AUTO) const {
        detail::Owned<mezzo_save_options_t, mezzo_save_options_free> options(mezzo_save_options_new());
        if (auto *error = mezzo_save_options_set_external(options.get(), external)) return Error(error);
        return detail::status(mezzo_model_save_file(get(), path.c_str(), options.get()));
    }
    Result<Buffer> save_memory() const {
        return detail::make<Buffer>([&](mezzo_buffer_t **out) { return mezzo_model_save_memory(get(), out); });
    }
    std::vector<Io> inputs() const {
        std::vector<Io> list;
        for (std::size_t i = 0; i < mezzo_model_input_count(get()); i++) list.emplace_back(mezzo_model_input(get(), i));
        return list;
    }
    std::vector<Io> outputs() const {
        std::vector<Io> list;
        for (std::size_t i = 0; i < mezzo_model_output_count(get()); i++) list.emplace_back(mezzo_model_output(get(), i));
        return list;
    }
    std::int64_t opset(const std::string &domain = "") const { return mezzo_model_opset(get(), domain.c_str()); }
    std::uint64_t weight_bytes() const { return mezzo_model_weight_bytes(get()); }
    /// To half precision, with a report.
    inline Result<Converted> convert(const ConvertOptions &options = {}) const;
};

inline Result<Calibrator> Calibrator::create(const Model &model) {
    return detail::make<Calibrator>(
        [&](mezzo_calibrator_t **out) { return mezzo_calibrator_new(nullptr, model.get(), out); });
}

/// A converted model and what was done.
struct Converted {
    Model model;
    Report report;
};

inline Result<Converted> Model::convert(const ConvertOptions &options) const {
    mezzo_model_t *model = nullptr;
    mezzo_report_t *report = nullptr;
    if (auto *error = mezzo_model_convert(get(), options.get(), &model, &report)) return Error(error);
    return Converted{Model(model), Report(report)};
}

/// How an engine is built or loaded.
class EngineOptions : public detail::Object<mezzo_engine_options_t, mezzo_engine_options_free> {
public:
    /// Returns whether to go on.
    using Progress = std::function<bool(const char *phase, float fraction)>;

    EngineOptions() : Object(mezzo_engine_options_new()) {}
    Status threads(std::size_t threads) { return detail::status(mezzo_engine_options_set_threads(get(), threads)); }
    Status memory_limit(std::size_t bytes) {
        return detail::status(mezzo_engine_options_set_memory_limit(get(), bytes));
    }
    Status device(std::size_t device) { return detail::status(mezzo_engine_options_set_device(get(), device)); }
    Status progress(Progress progress) {
        auto user = std::make_unique<Progress>(std::move(progress));
        auto call = [](void *u, const char *phase, float fraction) {
            return (*static_cast<Progress *>(u))(phase, fraction);
        };
        auto status =
            detail::status(mezzo_engine_options_set_progress(get(), call, user.get(), detail::delete_function<Progress>));
        if (status) user.release();
        return status;
    }
    Status set(const std::string &key, const std::string &value) {
        return detail::status(mezzo_engine_options_set(get(), key.c_str(), value.c_str()));
    }
};

/// What a backend made of a model.
class Engine : public detail::Object<mezzo_engine_t, mezzo_engine_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Engine(mezzo_engine_t *handle = nullptr) : Object(handle) {}
    static Result<Engine> build(const Model &model, const std::string &backend = "cpu", const EngineOptions &options = {},
                                const Env &env = Env()) {
        return detail::make<Engine>([&](mezzo_engine_t **out) {
            return mezzo_engine_build(env.get(), model.get(), backend.c_str(), options.get(), out);
        });
    }
    static Result<Engine> load(const std::string &path, const EngineOptions &options = {}, const Env &env = Env()) {
        return detail::make<Engine>([&](mezzo_engine_t **out) {
            return mezzo_engine_load_file(env.get(), path.c_str(), options.get(), out);
        });
    }
    Status save(const std::string &path) const { return detail::status(mezzo_engine_save_file(get(), path.c_str())); }
    /// A plan as TensorRT's own tools write it; the options must have trust_plan, because a plan is code.
    static Result<Engine> load_plan(const std::string &path, const std::string &backend, const EngineOptions &options,
                                    const Env &env = Env()) {
        return detail::make<Engine>([&](mezzo_engine_t **out) {
            return mezzo_engine_load_plan(env.get(), path.c_str(), backend.c_str(), options.get(), out);
        });
    }
    /// The plan as TensorRT's own tools read it.
    Status save_plan(const std::string &path) const {
        return detail::status(mezzo_engine_save_plan(get(), path.c_str()));
    }
    std::vector<Io> inputs() const {
        std::vector<Io> list;
        for (std::size_t i = 0; i < mezzo_engine_input_count(get()); i++) list.emplace_back(mezzo_engine_input(get(), i));
        return list;
    }
    std::vector<Io> outputs() const {
        std::vector<Io> list;
        for (std::size_t i = 0; i < mezzo_engine_output_count(get()); i++)
            list.emplace_back(mezzo_engine_output(get(), i));
        return list;
    }
    const char *backend() const { return mezzo_engine_backend(get()); }
    std::uint64_t weight_bytes() const { return mezzo_engine_weight_bytes(get()); }
    const char *inspect_json() const { return mezzo_engine_inspect_json(get()); }
    /// A random value for an input; without a shape, dynamic dimensions are 1.
    Result<Value> random_input(const std::string &name, std::uint64_t seed, const Shape &shape = {}) const {
        return detail::make<Value>([&](mezzo_value_t **out) {
            return mezzo_engine_random_input(get(), name.c_str(), shape.empty() ? nullptr : shape.data(), shape.size(), seed,
                                             out);
        });
    }
};

/// A flag that stops runs.
class Cancel : public detail::Object<mezzo_cancel_t, mezzo_cancel_free> {
public:
    Cancel() : Object(mezzo_cancel_new()) {}
    void request() const { mezzo_cancel_request(get()); }
    void reset() const { mezzo_cancel_reset(get()); }
    bool is_requested() const { return mezzo_cancel_is_requested(get()); }
};

/// How a context runs.
class RunOptions : public detail::Object<mezzo_run_options_t, mezzo_run_options_free> {
public:
    /// Sees every intermediate tensor; the handle is borrowed for the call.
    using Tap = std::function<void(const char *name, const mezzo_value_t *value)>;

    RunOptions() : Object(mezzo_run_options_new()) {}
    Status cancel(const Cancel &cancel) { return detail::status(mezzo_run_options_set_cancel(get(), cancel.get())); }
    Status tap(Tap tap) {
        auto user = std::make_unique<Tap>(std::move(tap));
        auto call = [](void *u, const char *name, const mezzo_value_t *value) { (*static_cast<Tap *>(u))(name, value); };
        auto status = detail::status(mezzo_run_options_set_tap(get(), call, user.get(), detail::delete_function<Tap>));
        if (status) user.release();
        return status;
    }
};

/// Device memory for the activations of contexts that take turns.
class ContextMemory : public detail::Object<mezzo_context_memory_t, mezzo_context_memory_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit ContextMemory(mezzo_context_memory_t *handle = nullptr) : Object(handle) {}
    static Result<ContextMemory> create(std::size_t device = 0) {
        return detail::make<ContextMemory>([&](mezzo_context_memory_t **out) { return mezzo_context_memory_new(device, out); });
    }
    std::size_t byte_size() const { return mezzo_context_memory_byte_size(get()); }
};

/// One execution of an engine.
class Context : public detail::Object<mezzo_context_t, mezzo_context_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Context(mezzo_context_t *handle = nullptr) : Object(handle) {}
    static Result<Context> create(const Engine &engine) {
        return detail::make<Context>([&](mezzo_context_t **out) { return mezzo_context_new(engine.get(), out); });
    }
    /// With activations in memory that other contexts use too.
    static Result<Context> create(const Engine &engine, const ContextMemory &memory) {
        return detail::make<Context>(
            [&](mezzo_context_t **out) { return mezzo_context_new_sharing(engine.get(), memory.get(), out); });
    }
    Status set_input_shape(const std::string &name, const Shape &shape) {
        return detail::status(mezzo_context_set_input_shape(get(), name.c_str(), shape.data(), shape.size()));
    }
    Status bind(const std::string &name, const Value &value) {
        return detail::status(mezzo_context_bind(get(), name.c_str(), value.get()));
    }
    Status bind(const std::string &name, const Buffer &buffer, std::size_t offset = 0) {
        return detail::status(mezzo_context_bind_buffer(get(), name.c_str(), buffer.get(), offset));
    }
    Status unbind(const std::string &name) { return detail::status(mezzo_context_unbind(get(), name.c_str())); }
    Status run() { return detail::status(mezzo_context_run(get(), nullptr)); }
    Status run(const RunOptions &options) { return detail::status(mezzo_context_run(get(), options.get())); }
    /// Enqueues an execution on a stream, without waiting.
    Status enqueue(const Stream &stream) { return detail::status(mezzo_context_enqueue(get(), stream.get())); }
    Status cuda_graph(bool on) { return detail::status(mezzo_context_set_cuda_graph(get(), on)); }
    Status profiling(bool on) { return detail::status(mezzo_context_set_profiling(get(), on)); }
    /// Layers and their milliseconds of the executions since the last call.
    Result<std::vector<std::pair<std::string, float>>> layer_times() {
        std::vector<std::pair<std::string, float>> times;
        auto add = [](void *user, const char *layer, float ms) {
            static_cast<std::vector<std::pair<std::string, float>> *>(user)->emplace_back(layer, ms);
        };
        if (auto *error = mezzo_context_layer_times(get(), add, &times)) return Error(error);
        return times;
    }
    /// How many executions were launched from a captured graph.
    Result<std::uint64_t> replays() {
        std::uint64_t count = 0;
        if (auto *error = mezzo_context_graph_counts(get(), nullptr, &count)) return Error(error);
        return count;
    }
    Result<Value> output(const std::string &name) {
        return detail::make<Value>(
            [&](mezzo_value_t **out) { return mezzo_context_output(get(), name.c_str(), out); });
    }
    Result<Shape> output_shape(const std::string &name) {
        std::size_t rank = 0;
        if (auto *error = mezzo_context_output_shape(get(), name.c_str(), nullptr, 0, &rank)) return Error(error);
        Shape shape(rank + 1); // one more, so that there is an address for scalars too
        if (auto *error = mezzo_context_output_shape(get(), name.c_str(), shape.data(), shape.size(), &rank))
            return Error(error);
        shape.resize(rank);
        return shape;
    }
};

/// Contexts of one engine that threads lease.
class ContextPool : public detail::Object<mezzo_context_pool_t, mezzo_context_pool_free> {
public:
    /// A context for as long as this lives; then it goes back. It must go before the pool.
    class Lease {
    public:
        Lease(const ContextPool &pool, Context context) : pool_(pool.get()), context_(std::move(context)) {}
        Lease(Lease &&other) noexcept : pool_(std::exchange(other.pool_, nullptr)), context_(std::move(other.context_)) {}
        Lease &operator=(Lease &&) = delete;
        ~Lease() {
            // A context that another thread still uses stays leased.
            if (mezzo_context_t *context = pool_ ? context_.release() : nullptr)
                mezzo_error_free(mezzo_context_pool_release(pool_, context));
        }
        Context *operator->() { return &context_; }
        Context &operator*() { return context_; }

    private:
        mezzo_context_pool_t *pool_;
        Context context_;
    };

    /// Takes over a C handle; empty without one.
    explicit ContextPool(mezzo_context_pool_t *handle = nullptr) : Object(handle) {}
    static Result<ContextPool> create(const Engine &engine, std::size_t most) {
        return detail::make<ContextPool>([&](mezzo_context_pool_t **out) { return mezzo_context_pool_new(engine.get(), most, out); });
    }
    /// Waits while all are leased, at most that many milliseconds; a negative number waits as long as it takes.
    Result<Lease> acquire(std::int64_t timeout_ms = -1) const {
        mezzo_context_t *context = nullptr;
        if (auto *error = mezzo_context_pool_acquire(get(), timeout_ms, &context)) return Error(error);
        return Lease(*this, Context(context));
    }
    std::size_t leased() const { return mezzo_context_pool_leased(get()); }
};

/// How the outputs of two engines differ; outputs are counted from 0 in the order of the first engine.
class Comparison : public detail::Object<mezzo_comparison_t, mezzo_comparison_free> {
public:
    /// Takes over a C handle; empty without one.
    explicit Comparison(mezzo_comparison_t *handle = nullptr) : Object(handle) {}
    std::size_t count() const { return mezzo_comparison_count(get()); }
    const char *name(std::size_t output) const { return mezzo_comparison_name(get(), output); }
    double max_abs(std::size_t output) const { return mezzo_comparison_max_abs(get(), output); }
    double max_rel(std::size_t output) const { return mezzo_comparison_max_rel(get(), output); }
    double rms(std::size_t output) const { return mezzo_comparison_rms(get(), output); }
    double cosine(std::size_t output) const { return mezzo_comparison_cosine(get(), output); }
    double top1_agreement(std::size_t output) const { return mezzo_comparison_top1_agreement(get(), output); }
    const char *json() const { return mezzo_comparison_to_json(get()); }
};

/// Runs two engines on the same inputs and compares their outputs; `a` is taken as right.
inline Result<Comparison> compare(const Engine &a, const Engine &b,
                                  const std::vector<std::pair<std::string, const Value *>> &inputs) {
    std::vector<const char *> names;
    std::vector<const mezzo_value_t *> values;
    for (const auto &input : inputs) {
        names.push_back(input.first.c_str());
        values.push_back(input.second ? input.second->get() : nullptr);
    }
    return detail::make<Comparison>([&](mezzo_comparison_t **out) {
        return mezzo_compare(a.get(), b.get(), names.data(), values.data(), names.size(), out);
    });
}

/// Converts floats to halves, rounding to nearest even.
inline Status to_half(const float *source, std::size_t count, Half *destination) {
    static_assert(sizeof(Half) == sizeof(std::uint16_t), "a half is two bytes");
    return detail::status(mezzo_convert_f32_to_f16(source, count, &destination->bits));
}

/// Converts halves to floats.
inline Status to_float(const Half *source, std::size_t count, float *destination) {
    return detail::status(mezzo_convert_f16_to_f32(&source->bits, count, destination));
}

} // namespace mezzo

#endif
