#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

Engine build(const Setup &setup, const std::string &path, bool half, const std::string &profile, bool keep_io,
             const char *backend)
{
    auto model = MAKE(Model, mezzo_model_load_file, static_cast<const mezzo_env_t *>(nullptr), path.c_str(),
                      static_cast<const mezzo_load_options_t *>(nullptr));
    if (half) {
        mezzo_convert_options_t *options = mezzo_convert_options_new();
        mezzo_model_t *converted = nullptr;
        mezzo_error_t *error = keep_io ? mezzo_convert_options_set(options, "keep_io", "true") : nullptr;
        if (!error)
            error = mezzo_model_convert(model.get(), options, &converted, nullptr);
        mezzo_convert_options_free(options);
        MUST(error);
        model.reset(converted);
    }
    EngineOptions options(mezzo_engine_options_new());
    if (std::string(backend) != "cpu") {
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
        // The other sources need cuBLAS and cuDNN, which a machine may lack.
        const char *sources = std::getenv("MEZZO_TACTIC_SOURCES");
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tactic_sources",
                                      sources ? sources : "edge_mask_convolutions,jit_convolutions"));
        // compute-sanitizer finds faults in a TF32 kernel of TensorRT 8.5's own, after which nothing in the process works.
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tf32", "false"));
        if (!profile.empty())
            MUST(mezzo_engine_options_set(options.get(), "profile", profile.c_str()));
    }
    mezzo_engine_t *engine = nullptr;
    MUST(mezzo_engine_build(nullptr, model.get(), backend, options.get(), &engine));
    return Engine(engine);
}

Engine load(const Setup &setup, const std::string &path, size_t device)
{
    EngineOptions options(mezzo_engine_options_new());
    MUST(mezzo_engine_options_set_device(options.get(), device));
    MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
    return MAKE(Engine, mezzo_engine_load_file, static_cast<const mezzo_env_t *>(nullptr), path.c_str(),
                static_cast<const mezzo_engine_options_t *>(options.get()));
}

std::vector<float> noise(size_t count, uint64_t seed)
{
    std::vector<float> values(count);
    for (float &value : values) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        value = static_cast<float>((z ^ (z >> 31)) >> 40) / 8388608.0f - 1.0f;
    }
    return values;
}

Value tensor(const std::vector<float> &numbers, const std::vector<int64_t> &dims, mezzo_dtype_t dtype)
{
    mezzo_value_t *wide = nullptr, *value = nullptr;
    MUST(mezzo_value_new_copy(nullptr, MEZZO_DTYPE_FP32, dims.data(), dims.size(), numbers.data(),
                              numbers.size() * sizeof(float), &wide));
    Value owned(wide);
    MUST(mezzo_value_to_float(wide, dtype, &value));
    return Value(value);
}

std::vector<float> numbers(const mezzo_value_t *value)
{
    mezzo_dtype_t dtype = mezzo_value_dtype(value);
    // Positions and counts, which TensorRT 8 holds as INT32 and later versions as INT64.
    if (dtype == MEZZO_DTYPE_INT32 || dtype == MEZZO_DTYPE_INT64) {
        std::vector<char> raw(mezzo_value_byte_size(value));
        std::vector<float> numbers(mezzo_value_count(value));
        MUST(mezzo_value_copy_out(value, raw.data(), raw.size()));
        for (size_t i = 0; i < numbers.size(); i++) {
            if (dtype == MEZZO_DTYPE_INT32) {
                int32_t word;
                std::memcpy(&word, raw.data() + i * sizeof word, sizeof word);
                numbers[i] = static_cast<float>(word);
            } else {
                int64_t word;
                std::memcpy(&word, raw.data() + i * sizeof word, sizeof word);
                numbers[i] = static_cast<float>(word);
            }
        }
        return numbers;
    }
    mezzo_value_t *wide = nullptr;
    MUST(mezzo_value_to_float(value, MEZZO_DTYPE_FP32, &wide));
    Value owned(wide);
    std::vector<float> numbers(mezzo_value_count(wide));
    MUST(mezzo_value_copy_out(wide, numbers.data(), numbers.size() * sizeof(float)));
    return numbers;
}

std::vector<float> output(mezzo_context_t *context, const char *name)
{
    auto value = MAKE(Value, mezzo_context_output, context, name);
    return numbers(value.get());
}

double difference(const std::vector<float> &got, const std::vector<float> &want)
{
    if (got.size() != want.size())
        throw Failure(std::to_string(got.size()) + " numbers, expected " + std::to_string(want.size()));
    double most = 0, worst = 0;
    for (size_t i = 0; i < want.size(); i++) {
        most = std::max(most, std::fabs(static_cast<double>(want[i])));
        double off = std::fabs(static_cast<double>(got[i]) - want[i]);
        if (!(off <= worst))
            worst = off; // NaN too
    }
    return worst / (most > 0 ? most : 1);
}
