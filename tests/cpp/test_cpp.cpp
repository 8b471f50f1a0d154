// The C++ header: the whole way from a file to a comparison, errors as values, ownership, callbacks. Compiled without
// exceptions and without RTTI.
#include <mezzo/mezzo.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                         \
            std::exit(1);                                                                                              \
        }                                                                                                              \
    } while (false)

namespace {

template <class T> T must(mezzo::Result<T> result, int line) {
    if (!result) {
        std::fprintf(stderr, "%s:%d: %s\n", __FILE__, line, result.error().message());
        std::exit(1);
    }
    return std::move(result).value();
}

void must(mezzo::Status status, int line) {
    if (!status) {
        std::fprintf(stderr, "%s:%d: %s\n", __FILE__, line, status.error().message());
        std::exit(1);
    }
}

#define MUST(result) must((result), __LINE__)

static_assert(!std::is_copy_constructible_v<mezzo::Model> && std::is_nothrow_move_constructible_v<mezzo::Model>);
static_assert(!std::is_copy_constructible_v<mezzo::Error> && !std::is_copy_assignable_v<mezzo::Engine>);
static_assert(mezzo::dtype_of<float>() == mezzo::DType::FP32 && mezzo::dtype_of<mezzo::Half>() == mezzo::DType::FP16);
static_assert(mezzo::dtype_of<std::int64_t>() == mezzo::DType::Int64 && mezzo::dtype_of<bool>() == mezzo::DType::Bool);
static_assert(mezzo::dtype_of<std::uint8_t>() == mezzo::DType::UInt8);

void errors(const std::string &scratch) {
    auto missing = mezzo::Model::load(scratch + "/missing.onnx");
    CHECK(!missing && !missing.ok());
    CHECK(missing.error().code() == MEZZO_ERROR_NOT_FOUND && missing.error().domain() == MEZZO_DOMAIN_IO);
    CHECK(std::strstr(missing.error().message(), "missing.onnx"));
    mezzo::Error error = std::move(missing).error();
    CHECK(error.native_code() != 0);
    CHECK(!std::move(missing).value_or(mezzo::Model()));

    mezzo::Model empty;
    auto converted = empty.convert();
    CHECK(!converted && converted.error().code() == MEZZO_ERROR_INVALID_ARGUMENT);
    CHECK(empty.inputs().empty() && empty.weight_bytes() == 0);
}

void values() {
    auto value = MUST(mezzo::Value::copy<float>({2, 2}, {1, 2, 3, 4}));
    CHECK(value.dtype() == mezzo::DType::FP32 && (value.shape() == mezzo::Shape{2, 2}) && value.count() == 4);
    auto numbers = value.as<float>();
    CHECK(numbers && numbers->size() == 4 && (*numbers)[3] == 4 && !value.as<double>());
    float sum = 0;
    for (float v : *numbers) sum += v;
    CHECK(sum == 10);
    auto half = MUST(value.to_float(mezzo::DType::FP16));
    CHECK(half.as<mezzo::Half>() && (*half.as<mezzo::Half>())[0].bits == 0x3c00);

    auto moved = std::move(value);
    CHECK(moved && !value && value.count() == 0);
    CHECK(!value.clone());
    CHECK(!mezzo::Value::copy<float>({2, 2}, {1, 2, 3}));

    int released = 0;
    std::vector<double> memory(6, 1.5);
    {
        auto wrapped = MUST(mezzo::Value::wrap(mezzo::DType::FP64, {6}, memory.data(), 48, [&] { released++; }));
        CHECK(wrapped.data() == memory.data());
        CHECK(!mezzo::Value::wrap(mezzo::DType::FP64, {7}, memory.data(), 48, [&] { released += 100; }));
        CHECK(released == 0);
    }
    CHECK(released == 1);

    auto buffer = MUST(mezzo::Buffer::allocate(64));
    MUST(buffer.copy_in(8, memory.data(), 16));
    auto over = MUST(mezzo::Value::over(buffer, 8, mezzo::DType::FP64, {2}));
    CHECK((*over.as<double>())[1] == 1.5);
    {
        auto wrapped = MUST(mezzo::Buffer::wrap(memory.data(), 48, [&] { released++; }));
        CHECK(wrapped.size() == 48);
    }
    CHECK(released == 2);

    auto words = MUST(mezzo::Value::strings({2}, {"half", std::string("z\0ro", 4)}));
    CHECK(MUST(words.string(1)).size() == 4 && !words.string(2));
    CHECK(!mezzo::Value::strings({3}, {"one"}));
    auto sequence = MUST(mezzo::Value::sequence({&moved, &words}));
    CHECK(sequence.count() == 2 && MUST(sequence.member(0)).count() == 4);
    CHECK(MUST(mezzo::Value::optional(nullptr)).count() == 0);

    const float wide[] = {1, -2};
    mezzo::Half narrow[2];
    float back[2];
    MUST(mezzo::to_half(wide, 2, narrow));
    MUST(mezzo::to_float(narrow, 2, back));
    CHECK(back[1] == -2);
}

void shared_with_others() {
    auto value = MUST(mezzo::Value::copy<float>({2}, {1.5f, -2.0f}));
    auto again = MUST(mezzo::Value::from_dlpack(MUST(value.to_dlpack())));
    CHECK(again.data() == value.data() && again.shape() == mezzo::Shape{2});
}

void whole_way(const std::string &scratch, const std::string &fixtures) {
    std::vector<std::string> lines;
    mezzo::EnvOptions env_options;
    MUST(env_options.log([&](mezzo_log_level_t, const char *line) { lines.emplace_back(line); }));
    MUST(env_options.log_level(MEZZO_LOG_INFO));
    MUST(env_options.threads(1));
    CHECK(!env_options.set("colour", "red"));
    auto env = MUST(mezzo::Env::create(env_options));

    auto model = MUST(mezzo::Model::load(fixtures + "/digits/digits.onnx", {}, env));
    CHECK(!lines.empty());
    CHECK(model.inputs().size() == 1 && std::strcmp(model.inputs()[0].name(), "image") == 0);
    auto shape = model.inputs()[0].shape();
    CHECK(shape && (*shape == mezzo::Shape{-1, 1, 8, 8}) && std::strcmp(model.inputs()[0].symbol(0), "batch") == 0);

    mezzo::ConvertOptions options;
    MUST(options.keep_io(true));
    CHECK(!options.precision(mezzo::DType::Int8));
    auto calibrator = MUST(mezzo::Calibrator::create(model));
    MUST(calibrator.run_random(1));
    CHECK(!calibrator.run({}));
    MUST(options.calibration(calibrator));
    auto converted = MUST(model.convert(options));
    CHECK(converted.report.half_nodes() > 0 && std::strstr(converted.report.json(), "half_nodes"));
    CHECK(converted.model.weight_bytes() < model.weight_bytes());
    MUST(converted.model.save(scratch + "/half.onnx"));
    auto bytes = MUST(converted.model.save_memory());
    CHECK(MUST(mezzo::Model::load_memory(bytes.data(), bytes.size())).opset() == model.opset());

    int steps = 0;
    mezzo::EngineOptions engine_options;
    MUST(engine_options.memory_limit(std::size_t{1} << 30));
    MUST(engine_options.progress([&](const char *, float) { return ++steps > 0; }));
    auto full = MUST(mezzo::Engine::build(model, "cpu", engine_options, env));
    auto half = MUST(mezzo::Engine::build(converted.model));
    CHECK(steps > 0);
    MUST(half.save(scratch + "/half.engine"));
    half = MUST(mezzo::Engine::load(scratch + "/half.engine"));
    CHECK(std::strcmp(half.backend(), "cpu") == 0 && half.outputs().size() == 1);
    auto pool = MUST(mezzo::ContextPool::create(half, 1));
    {
        auto lease = MUST(pool.acquire());
        CHECK(lease->get() && pool.leased() == 1);
        auto second = pool.acquire(0);
        CHECK(!second && second.error().code() == MEZZO_ERROR_BUSY);
    }
    CHECK(pool.leased() == 0);

    auto image = MUST(full.random_input("image", 3, {4, 1, 8, 8}));
    auto difference = MUST(mezzo::compare(full, half, {{"image", &image}}));
    CHECK(difference.count() == 1 && difference.max_rel(0) < 0.02 && difference.cosine(0) > 0.999);

    auto context = MUST(mezzo::Context::create(half));
    CHECK(!context.run());
    MUST(context.bind("image", image));
    CHECK((MUST(context.output_shape("logits")) == mezzo::Shape{4, 10}));
    int seen = 0;
    mezzo::Cancel cancel;
    mezzo::RunOptions run;
    MUST(run.tap([&](const char *, const mezzo_value_t *) { seen++; }));
    MUST(run.cancel(cancel));
    MUST(context.run(run));
    CHECK(seen > 5);
    auto logits = MUST(context.output("logits"));
    CHECK((logits.shape() == mezzo::Shape{4, 10}) && logits.as<float>());
    cancel.request();
    auto stopped = context.run(run);
    CHECK(!stopped && stopped.error().code() == MEZZO_ERROR_CANCELLED);
}

} // namespace

int main(int argc, char **argv) {
    CHECK(argc == 3);
    CHECK(mezzo::check_version());
    errors(argv[1]);
    values();
    shared_with_others();
    whole_way(argv[1], argv[2]);
    return 0;
}
