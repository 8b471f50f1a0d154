// Shapes that are not known beforehand: decided by the data, given as an input's values, or of several profiles.
#include "cuda.hpp"
#include "digits.hpp"
#include "tests.hpp"

namespace {

/* An engine from a model of tests/gpu/models.py, built once. */
Engine small(const Setup &setup, const char *name, const std::string &profile)
{
    std::string path = setup.scratch + "/" + name + ".engine";
    if (!setup.quick || !std::ifstream(path)) {
        Engine engine = build(setup, setup.models + "/" + name + ".onnx", false, profile);
        MUST(mezzo_engine_save_file(engine.get(), path.c_str()));
        return engine;
    }
    return load(setup, path);
}

/* What the model select.onnx computes: the positive numbers. */
std::vector<float> positive(const std::vector<float> &numbers)
{
    std::vector<float> found;
    for (float x : numbers)
        if (x > 0)
            found.push_back(x);
    return found;
}

/* Where they are. */
std::vector<float> places(const std::vector<float> &numbers)
{
    std::vector<float> found;
    for (size_t i = 0; i < numbers.size(); i++)
        if (numbers[i] > 0)
            found.push_back(static_cast<float>(i));
    return found;
}

/* The context's output must be this. */
void same_at(int line, mezzo_context_t *context, const char *name, const std::vector<float> &want, const std::string &when)
{
    std::vector<float> got = output(context, name);
    if (got == want)
        return;
    size_t first = 0;
    while (first < got.size() && first < want.size() && got[first] == want[first])
        first++;
    throw Failure("shapes.cpp:" + std::to_string(line) + ": " + when + ": output '" + name + "' has " + std::to_string(got.size()) +
                  " numbers, expected " + std::to_string(want.size()) + "; number " + std::to_string(first) + " is " +
                  (first < got.size() ? std::to_string(got[first]) : "missing") + ", expected " +
                  (first < want.size() ? std::to_string(want[first]) : "none"));
}
#define SAME(...) same_at(__LINE__, __VA_ARGS__)

std::vector<int64_t> dims_of(mezzo_context_t *context, const char *name)
{
    int64_t dims[8];
    size_t rank = 0;
    MUST(mezzo_context_output_shape(context, name, dims, 8, &rank));
    return {dims, dims + rank};
}

} // namespace

namespace {

/* Executions that follow at once on two streams, with sizes that grow and shrink: each result is kept, and right in the end. */
void decided_in_a_row(const Setup &setup, mezzo_context_t *context, mezzo_buffer_t *input)
{
    Stream streams[] = {new_stream(), new_stream()};
    std::vector<Buffer> inputs;
    std::vector<Value> kept;
    std::vector<std::vector<float>> want;
    const size_t sizes[] = {17, 4096, 1, 1000, 4000, 3};
    size_t rounds = setup.quick ? 12 : 120;
    for (size_t i = 0; i < rounds; i++) {
        size_t count = sizes[i % 6];
        std::vector<float> sent = noise(count, 100 + i);
        want.push_back(positive(sent));
        inputs.push_back(MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4)));
        MUST(mezzo_buffer_copy_in(inputs.back().get(), 0, sent.data(), count * 4));
    }
    MUST(mezzo_context_unbind(context, "values"));
    for (size_t i = 0; i < rounds; i++) {
        const int64_t dims[] = {static_cast<int64_t>(sizes[i % 6])};
        MUST(mezzo_context_bind_buffer(context, "x", inputs[i].get(), 0));
        MUST(mezzo_context_set_input_shape(context, "x", dims, 1));
        // Some results go to the caller's memory, which is let go at once but for the result.
        if (i % 3 == 0) {
            auto own = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4));
            MUST(mezzo_context_bind_buffer(context, "values", own.get(), 0));
        }
        MUST(mezzo_context_enqueue(context, streams[i % 2].get()));
        kept.push_back(MAKE(Value, mezzo_context_output, context, "values"));
        if (i % 3 == 0)
            MUST(mezzo_context_unbind(context, "values"));
        if (i % 5 == 4)
            kept.back().reset();
    }
    for (Stream &stream : streams)
        MUST(mezzo_stream_synchronize(stream.get()));
    for (size_t i = 0; i < rounds; i++)
        EXPECT(!kept[i] || numbers(kept[i].get()) == want[i]);
    MUST(mezzo_context_bind_buffer(context, "x", input, 0));
    const int64_t dims[] = {1000};
    MUST(mezzo_context_set_input_shape(context, "x", dims, 1));
}

/* A graph cannot hold what the data decides: an error before anything is captured, and it goes on. */
void decided_in_graphs(mezzo_context_t *context, mezzo_buffer_t *large)
{
    Cuda cuda;
    Stream stream = new_stream();
    auto where = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 8));
    MUST(mezzo_context_bind_buffer(context, "values", large, 0));
    MUST(mezzo_context_bind_buffer(context, "where", where.get(), 0));
    MUST(mezzo_context_enqueue(context, stream.get()));
    std::vector<float> want = output(context, "values");
    void *cuda_stream = mezzo_stream_cuda(stream.get()), *graph = nullptr;
    MUST(mezzo_stream_synchronize(stream.get()));
    cuda.call("cuStreamBeginCapture_v2", cuda_stream, 2);
    REFUSED(mezzo_context_enqueue(context, stream.get()), MEZZO_ERROR_UNSUPPORTED, "cannot be captured");
    cuda.call("cuStreamEndCapture", cuda_stream, &graph);
    cuda.call("cuGraphDestroy", graph);
    MUST(mezzo_context_set_cuda_graph(context, true));
    MUST(mezzo_context_enqueue(context, stream.get()));
    REFUSED(mezzo_context_enqueue(context, stream.get()), MEZZO_ERROR_UNSUPPORTED, "turn the option off");
    MUST(mezzo_context_set_cuda_graph(context, false));
    MUST(mezzo_context_enqueue(context, stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(output(context, "values") == want);
}

} // namespace

std::string test_data_decides(const Setup &setup)
{
    Engine engine = small(setup, "select", "x=1:1000:4096");
    auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
    Stream stream = new_stream();
    auto input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4));
    auto large = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4));
    auto little = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(256));
    size_t sizes[] = {1000, 1, 4096, 17, 1000};
    for (size_t i = 0; i < 5; i++) {
        size_t count = sizes[i];
        std::vector<float> sent = noise(count, i), want = positive(sent);
        int64_t dims[] = {static_cast<int64_t>(count)};
        Value value = tensor(sent, {dims[0]}, MEZZO_DTYPE_FP32);
        // From and to the host.
        MUST(mezzo_context_bind(context.get(), "x", value.get()));
        MUST(mezzo_context_unbind(context.get(), "values"));
        MUST(mezzo_context_run(context.get(), nullptr));
        SAME(context.get(), "values", want, "run with " + std::to_string(count));
        EXPECT(dims_of(context.get(), "values") == std::vector<int64_t>{static_cast<int64_t>(want.size())});
        SAME(context.get(), "where", places(sent), "run with " + std::to_string(count));
        // On the device: memory made on the spot, and the caller's.
        MUST(mezzo_buffer_copy_in(input.get(), 0, sent.data(), count * 4));
        MUST(mezzo_context_bind_buffer(context.get(), "x", input.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), "x", dims, 1));
        for (int bound = 0; bound < 2; bound++) {
            if (bound)
                MUST(mezzo_context_bind_buffer(context.get(), "values", large.get(), 0));
            MUST(mezzo_context_enqueue(context.get(), stream.get()));
            MUST(mezzo_stream_synchronize(stream.get()));
            SAME(context.get(), "values", want, std::string(bound ? "bound" : "made") + ", enqueued with " + std::to_string(count));
            SAME(context.get(), "where", places(sent), "enqueued with " + std::to_string(count));
        }
        std::vector<float> there(want.size());
        MUST(mezzo_buffer_copy_out(large.get(), 0, there.data(), there.size() * 4));
        EXPECT(there == want);
    }
    // Other data in the same memory: another shape, though nothing is bound anew.
    for (uint64_t seed : {11, 12, 13}) {
        std::vector<float> sent = noise(1000, seed), want = positive(sent);
        MUST(mezzo_buffer_copy_in(input.get(), 0, sent.data(), 4000));
        auto where = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 8));
        if (seed == 11)
            MUST(mezzo_context_bind_buffer(context.get(), "where", where.get(), 0));
        MUST(mezzo_context_enqueue(context.get(), stream.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(dims_of(context.get(), "values") == std::vector<int64_t>{static_cast<int64_t>(want.size())});
        SAME(context.get(), "values", want, "as bound before, other data " + std::to_string(seed));
    }
    MUST(mezzo_context_unbind(context.get(), "where"));
    MUST(mezzo_buffer_copy_in(input.get(), 0, noise(1000, 4).data(), 4000));
    // Too little memory: an error that says how much, and it goes on.
    MUST(mezzo_context_bind_buffer(context.get(), "values", little.get(), 0));
    REFUSED(mezzo_context_enqueue(context.get(), stream.get()), MEZZO_ERROR_SIZE_MISMATCH, "256 bytes are bound");
    MUST(mezzo_context_bind_buffer(context.get(), "values", large.get(), 0));
    MUST(mezzo_context_enqueue(context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(output(context.get(), "values") == positive(noise(1000, 4)));
    decided_in_a_row(setup, context.get(), input.get());
    decided_in_graphs(context.get(), large.get());
    return "5 sizes, from the host, into memory made on the spot and into the caller's; too little of it, and graphs, refused; results "
           "kept while others are computed on two streams";
}

std::string test_mixed(const Setup &setup)
{
    Engine engine = small(setup, "mixed", "x=1:1000:4096");
    auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
    Stream stream = new_stream();
    auto check = [&](const std::vector<float> &sent, const std::string &when) {
        std::vector<float> doubled(sent);
        for (float &x : doubled)
            x *= 2;
        SAME(context.get(), "doubled", doubled, when);
        SAME(context.get(), "values", positive(sent), when);
        SAME(context.get(), "largest", {*std::max_element(sent.begin(), sent.end())}, when);
        EXPECT(dims_of(context.get(), "doubled") == std::vector<int64_t>{static_cast<int64_t>(sent.size())});
    };
    // Each execution has memory of just its size, with other memory behind it that must stay as it is.
    for (size_t count : {1000, 17, 4096, 1, 1000, 999}) {
        std::vector<float> sent = noise(count, count);
        const int64_t dims[] = {static_cast<int64_t>(count)};
        Value value = tensor(sent, {dims[0]}, MEZZO_DTYPE_FP32);
        MUST(mezzo_context_bind(context.get(), "x", value.get()));
        MUST(mezzo_context_unbind(context.get(), "doubled"));
        MUST(mezzo_context_run(context.get(), nullptr));
        check(sent, "run with " + std::to_string(count));
        size_t bytes = count * 4, room = (bytes + 255) / 256 * 256 + (size_t(1) << 16);
        auto input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), bytes);
        auto doubled = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), room);
        MUST(mezzo_buffer_copy_in(input.get(), 0, sent.data(), bytes));
        MUST(mezzo_buffer_fill_async(doubled.get(), 0, 0x7f, room, stream.get()));
        MUST(mezzo_context_bind_buffer(context.get(), "x", input.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), "x", dims, 1));
        for (int round = 0; round < 3; round++) {
            if (round == 1)
                MUST(mezzo_context_bind_buffer(context.get(), "doubled", doubled.get(), 0));
            MUST(mezzo_context_enqueue(context.get(), stream.get()));
            MUST(mezzo_stream_synchronize(stream.get()));
            check(sent, "enqueued with " + std::to_string(count) + ", round " + std::to_string(round));
        }
        std::vector<unsigned char> behind(room - bytes);
        MUST(mezzo_buffer_copy_out(doubled.get(), bytes, behind.data(), behind.size()));
        EXPECT(std::all_of(behind.begin(), behind.end(), [](unsigned char b) { return b == 0x7f; }));
    }
    auto little = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(256));
    MUST(mezzo_context_bind_buffer(context.get(), "doubled", little.get(), 0));
    REFUSED(mezzo_context_enqueue(context.get(), stream.get()), MEZZO_ERROR_SIZE_MISMATCH, "at least 3996 bytes");
    MUST(mezzo_context_unbind(context.get(), "doubled"));
    MUST(mezzo_context_set_cuda_graph(context.get(), true));
    std::string refusal = "data decides the size of output 'values'";
    for (const char *name : {"doubled", "values"})
        MUST(mezzo_context_bind_buffer(context.get(), name, MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(1) << 14).get(), 0));
    auto largest = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4));
    MUST(mezzo_context_bind_buffer(context.get(), "largest", largest.get(), 0));
    MUST(mezzo_context_enqueue(context.get(), stream.get()));
    REFUSED(mezzo_context_enqueue(context.get(), stream.get()), MEZZO_ERROR_UNSUPPORTED, refusal.c_str());
    MUST(mezzo_stream_synchronize(stream.get()));
    check(noise(999, 999), "with the option for graphs");
    return "an output that the data decides, one of the input's size, a fixed one: 6 sizes, run and enqueued, nothing written behind them";
}

namespace {

/* A model of branches must be right, or be refused with that text; true if it was built. */
bool right_or_refused(const Setup &setup, const char *name, const char *refusal)
{
    Engine engine;
    try {
        engine = small(setup, name, "");
    } catch (const Failure &failure) {
        if (std::string(failure.what()).find(refusal) == std::string::npos)
            throw;
        return false;
    }
    auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
    for (float sign : {1.0f, -1.0f, 1.0f}) {
        std::vector<float> sent = {sign, sign * 2, sign * 3, sign * 4}, scaled;
        for (float x : sent)
            scaled.push_back(x * (sign > 0 ? 2 : -3));
        std::vector<float> both(scaled);
        both.insert(both.end(), sent.begin(), sent.end());
        Value value = tensor(sent, {1, 4}, MEZZO_DTYPE_FP32);
        MUST(mezzo_context_bind(context.get(), "x", value.get()));
        MUST(mezzo_context_run(context.get(), nullptr));
        SAME(context.get(), "small", scaled, name);
        if (mezzo_engine_output_count(engine.get()) > 1)
            SAME(context.get(), "large", both, name);
    }
    return true;
}

} // namespace

/* TensorRT 8.5's parser throws a C++ exception at such branches, which must arrive as an error. */
std::string test_branches(const Setup &setup)
{
    bool one = right_or_refused(setup, "branch", "threw the C++ exception");
    bool two = right_or_refused(setup, "branches", "exchange the outputs of an If");
    return std::string("one output: ") + (one ? "right" : "refused") + "; two: " + (two ? "right" : "refused");
}

std::string test_shape_input(const Setup &setup)
{
    Engine engine = small(setup, "expand", "size=[1,4]:[3,4]:[64,4]");
    auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
    mezzo_dtype_t dtype = MEZZO_DTYPE_FP32;
    for (size_t i = 0; i < mezzo_engine_input_count(engine.get()); i++)
        if (std::string(mezzo_io_name(mezzo_engine_input(engine.get(), i))) == "size")
            dtype = mezzo_io_dtype(mezzo_engine_input(engine.get(), i));
    EXPECT(dtype == MEZZO_DTYPE_INT32 || dtype == MEZZO_DTYPE_INT64);
    Stream stream = new_stream();
    auto input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(16));
    auto large = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(64 * 4 * 4));
    for (int rows : {3, 1, 64, 7}) {
        std::vector<float> sent = noise(4, static_cast<uint64_t>(rows)), want;
        for (int r = 0; r < rows; r++)
            for (float x : sent)
                want.push_back(2 * x);
        int64_t two[] = {2};
        int32_t small_size[] = {rows, 4};
        int64_t wide_size[] = {rows, 4};
        const void *words = dtype == MEZZO_DTYPE_INT64 ? static_cast<const void *>(wide_size) : small_size;
        mezzo_value_t *raw = nullptr;
        MUST(mezzo_value_new_copy(nullptr, dtype, two, 1, words, dtype == MEZZO_DTYPE_INT64 ? 16 : 8, &raw));
        Value size(raw);
        Value value = tensor(sent, {1, 4}, MEZZO_DTYPE_FP32);
        MUST(mezzo_context_bind(context.get(), "size", size.get()));
        MUST(mezzo_context_bind(context.get(), "x", value.get()));
        MUST(mezzo_context_unbind(context.get(), "y"));
        MUST(mezzo_context_run(context.get(), nullptr));
        EXPECT(output(context.get(), "y") == want);
        EXPECT(dims_of(context.get(), "y") == (std::vector<int64_t>{rows, 4}));
        // Enqueued: the shape stays on the host, the rest on the device.
        const int64_t dims[] = {1, 4};
        MUST(mezzo_buffer_copy_in(input.get(), 0, sent.data(), 16));
        MUST(mezzo_context_bind_buffer(context.get(), "x", input.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), "x", dims, 2));
        MUST(mezzo_context_bind_buffer(context.get(), "y", large.get(), 0));
        MUST(mezzo_context_enqueue(context.get(), stream.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(output(context.get(), "y") == want);
    }
    // Values outside the profile: an error, and it goes on.
    auto sized = [&](int32_t rows) {
        int64_t two[] = {2}, wide_size[] = {rows, 4};
        int32_t small_size[] = {rows, 4};
        bool wide = dtype == MEZZO_DTYPE_INT64;
        mezzo_value_t *raw = nullptr;
        MUST(mezzo_value_new_copy(nullptr, dtype, two, 1, wide ? static_cast<const void *>(wide_size) : small_size, wide ? 16 : 8, &raw));
        Value size(raw);
        MUST(mezzo_context_bind(context.get(), "size", size.get()));
        MUST(mezzo_context_bind_buffer(context.get(), "y", large.get(), 0));
    };
    sized(65);
    REFUSED(mezzo_context_enqueue(context.get(), stream.get()), MEZZO_ERROR_SHAPE_MISMATCH, "input 'size' is [65, 4]");
    sized(2);
    MUST(mezzo_context_enqueue(context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(output(context.get(), "y").size() == 8);
    return "4 shapes as values of an input, run and enqueued; too many rows refused";
}

std::string test_profiles(const Setup &setup)
{
    const Digits &d = digits(setup);
    std::string path = setup.scratch + "/profiles.engine";
    EngineOptions options(mezzo_engine_options_new());
    MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
    Engine engine;
    if (setup.quick && std::ifstream(path)) {
        engine = load(setup, path);
    } else {
        std::string model_path = setup.digits + "/digits.onnx";
        auto model = MAKE(Model, mezzo_model_load_file, static_cast<const mezzo_env_t *>(nullptr), model_path.c_str(),
                          static_cast<const mezzo_load_options_t *>(nullptr));
        const char *sources = std::getenv("MEZZO_TACTIC_SOURCES");
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tactic_sources",
                                      sources ? sources : "edge_mask_convolutions,jit_convolutions"));
        // As in `build`.
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tf32", "false"));
        MUST(mezzo_engine_options_set(options.get(), "profile", "image=1x1x8x8:2x1x8x8:4x1x8x8"));
        MUST(mezzo_engine_options_set(options.get(), "profile", "image=8x1x8x8:64x1x8x8:450x1x8x8"));
        engine = MAKE(Engine, mezzo_engine_build, static_cast<const mezzo_env_t *>(nullptr),
                      static_cast<const mezzo_model_t *>(model.get()), "tensorrt",
                      static_cast<const mezzo_engine_options_t *>(options.get()));
        MUST(mezzo_engine_save_file(engine.get(), path.c_str()));
    }
    auto right = [&](mezzo_context_t *context, size_t count) {
        Value value = d.value(engine.get(), count);
        MUST(mezzo_context_bind(context, "image", value.get()));
        MUST(mezzo_context_run(context, nullptr));
        std::vector<float> got = output(context, output_name(engine.get())), want = d.run(d.single.get(), count);
        EXPECT(difference(got, want) < 2e-3);
    };
    // One context that changes between them, and two at once on one profile and on both.
    in_threads(3, [&](size_t t) {
        auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
        const size_t sizes[3][6] = {{1, 100, 4, 8, 450, 2}, {64, 64, 9, 8, 100, 450}, {3, 4, 3, 1, 2, 64}};
        for (size_t count : sizes[t])
            right(context.get(), count);
        Value between = d.value(engine.get(), 6);
        MUST(mezzo_context_bind(context.get(), "image", between.get()));
        REFUSED(mezzo_context_run(context.get(), nullptr), MEZZO_ERROR_SHAPE_MISMATCH, "profile 1");
        right(context.get(), 8);
    });
    return "3 contexts at once that change between two profiles; a batch between them refused";
}

namespace {

/* A count under "precision" of what the engine tells of itself. */
long counted(const std::string &told, const std::string &name)
{
    size_t at = told.find("\"precision\"");
    at = at == std::string::npos ? at : told.find('"' + name + "\":", at);
    if (at == std::string::npos)
        throw Failure("the engine does not count its '" + name + "' layers");
    return std::stol(told.substr(at + name.size() + 3));
}

} // namespace

std::string test_half_required(const Setup &setup)
{
    if (setup.quick)
        return "builds: not in a quick run";
    std::string told[2];
    auto attempt = [&](bool half, bool fixed) {
        std::string path = fixed ? setup.models + "/digits32.onnx" : setup.digits + "/digits.onnx";
        auto model = MAKE(Model, mezzo_model_load_file, static_cast<const mezzo_env_t *>(nullptr), path.c_str(),
                          static_cast<const mezzo_load_options_t *>(nullptr));
        if (half) {
            mezzo_model_t *converted = nullptr;
            MUST(mezzo_model_convert(model.get(), nullptr, &converted, nullptr));
            model.reset(converted);
        }
        EngineOptions options(mezzo_engine_options_new());
        const char *sources = std::getenv("MEZZO_TACTIC_SOURCES");
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tactic_sources",
                                      sources ? sources : "edge_mask_convolutions,jit_convolutions"));
        if (!fixed)
            MUST(mezzo_engine_options_set(options.get(), "profile", Digits::PROFILE));
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.require_fp16", "true"));
        mezzo_engine_t *engine = nullptr;
        std::string message = message_of(mezzo_engine_build(nullptr, model.get(), "tensorrt", options.get(), &engine));
        Engine owned(engine);
        if (owned)
            told[fixed] = mezzo_engine_inspect_json(owned.get());
        return message;
    };
    for (bool fixed : {false, true}) {
        EXPECT(attempt(false, fixed).find("no FP16 value") != std::string::npos);
        std::string refusal = attempt(true, fixed);
        if (!refusal.empty())
            throw Failure("the FP16 model was refused: " + refusal);
    }
    // The refusal reads the types that the engine tells: of dynamic shapes for those that it was optimised for.
    std::string said;
    for (bool fixed : {false, true}) {
        long layers = counted(told[fixed], "layers"), half = counted(told[fixed], "half"), other = counted(told[fixed], "other");
        said += std::string(fixed ? ", fixed " : "; dynamic shapes: ") + std::to_string(half) + " of " + std::to_string(layers) +
                " layers half, " + std::to_string(counted(told[fixed], "float")) + " float, " +
                std::to_string(counted(told[fixed], "unknown")) + " untold";
        if (!(half > 0 && half + other == layers))
            throw Failure(said + ": " + told[fixed].substr(0, 6000));
    }
    return "FP32 refused, FP16 built" + said;
}
