// What the GPU tests share: checks that say where they failed, handles that free themselves, models built and run.
#ifndef MEZZO_GPU_CHECK_HPP
#define MEZZO_GPU_CHECK_HPP

#include <mezzo/mezzo.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/* A test that this machine cannot run. */
struct Skipped : std::runtime_error {
    using std::runtime_error::runtime_error;
};

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            throw Failure(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " #condition " does not hold");  \
    } while (false)

/* The error's message, or nothing. */
inline std::string message_of(mezzo_error_t *error)
{
    std::string text = error ? mezzo_error_message(error) : "";
    mezzo_error_free(error);
    return text;
}

inline void must_at(mezzo_error_t *error, const char *file, int line)
{
    if (error)
        throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + message_of(error));
}
#define MUST(call) must_at((call), __FILE__, __LINE__)

/* The call must fail with that code, and its message must have that text. */
inline void refused_at(mezzo_error_t *error, mezzo_error_code_t code, const char *text, const char *file, int line)
{
    std::string at = std::string(file) + ":" + std::to_string(line) + ": ";
    if (!error)
        throw Failure(at + "the call succeeded, an error was expected");
    mezzo_error_code_t got = mezzo_error_code(error);
    std::string message = message_of(error);
    if (got != code || message.find(text) == std::string::npos)
        throw Failure(at + "code " + std::to_string(got) + ", message: " + message);
}
#define REFUSED(call, code, text) refused_at((call), (code), (text), __FILE__, __LINE__)

template <class T, void (*Free)(T *)> struct Freed {
    void operator()(T *handle) const { Free(handle); }
};
template <class T, void (*Free)(T *)> using Handle = std::unique_ptr<T, Freed<T, Free>>;
using Model = Handle<mezzo_model_t, mezzo_model_free>;
using Engine = Handle<mezzo_engine_t, mezzo_engine_free>;
using EngineOptions = Handle<mezzo_engine_options_t, mezzo_engine_options_free>;
using Context = Handle<mezzo_context_t, mezzo_context_free>;
using Buffer = Handle<mezzo_buffer_t, mezzo_buffer_free>;
using Stream = Handle<mezzo_stream_t, mezzo_stream_free>;
using Event = Handle<mezzo_event_t, mezzo_event_free>;
using Value = Handle<mezzo_value_t, mezzo_value_free>;

/* `make<Buffer>(mezzo_buffer_new_device, 0, 64)` calls the function with the place for the handle last. */
template <class H, class F, class... A> H make_at(const char *file, int line, F function, A... arguments)
{
    typename H::pointer handle = nullptr;
    must_at(function(arguments..., &handle), file, line);
    return H(handle);
}
#define MAKE(type, ...) make_at<type>(__FILE__, __LINE__, __VA_ARGS__)

/* Where things are, and how much is to be done. */
struct Setup {
    std::string library, models, digits, scratch;
    bool quick = false;
};

/* An engine of the backend "tensorrt", from the model as it is or converted to FP16. */
Engine build(const Setup &setup, const std::string &model, bool half, const std::string &profile, bool keep_io = false,
             const char *backend = "tensorrt");

/* The engine's first input and output. */
inline const char *input_name(const mezzo_engine_t *engine) { return mezzo_io_name(mezzo_engine_input(engine, 0)); }
inline const char *output_name(const mezzo_engine_t *engine) { return mezzo_io_name(mezzo_engine_output(engine, 0)); }

/* An engine file, with the options that running it needs. */
Engine load(const Setup &setup, const std::string &path, size_t device = 0);

/* The work in that many threads at once, each with its number; throws what the first of them threw. */
template <class F> void in_threads(size_t count, F work)
{
    std::vector<std::string> failures(count);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < count; t++)
        threads.emplace_back([&, t] {
            try {
                work(t);
            } catch (const std::exception &e) {
                failures[t] = e.what();
            }
        });
    for (std::thread &thread : threads)
        thread.join();
    for (const std::string &failure : failures)
        if (!failure.empty())
            throw Failure(failure);
}

/* Floats that are the same in every run, in [-1, 1). */
std::vector<float> noise(size_t count, uint64_t seed);

/* A tensor of the given type with these numbers, on the host. */
Value tensor(const std::vector<float> &numbers, const std::vector<int64_t> &dims, mezzo_dtype_t dtype);

/* A tensor's numbers, from wherever it lies. */
std::vector<float> numbers(const mezzo_value_t *value);

/* The numbers of the context's output. */
std::vector<float> output(mezzo_context_t *context, const char *name);

/* Largest difference as a share of the largest number of `want`. */
double difference(const std::vector<float> &got, const std::vector<float> &want);

#endif
