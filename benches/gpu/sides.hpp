// What the benchmarks share: Mezzo and a bare TensorRT program on the same plan, with the same memory.
#ifndef MEZZO_BENCH_SIDES_HPP
#define MEZZO_BENCH_SIDES_HPP

#include "../../tests/gpu/check.hpp"
#include "bare.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <sstream>

using Clock = std::chrono::steady_clock;

inline double micros(Clock::time_point from) { return std::chrono::duration<double, std::micro>(Clock::now() - from).count(); }

/* The value that a share of them does not exceed. */
inline double quantile(std::vector<double> values, double share)
{
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

inline double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

/* The functions of the driver that both sides need in the measured loops. */
struct Driver {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    template <class F> F get(const char *symbol) const
    {
        auto function = reinterpret_cast<F>(dlsym(library, symbol));
        if (!function)
            throw Failure(symbol);
        return function;
    }
    int started = get<int (*)(unsigned)>("cuInit")(0);
    int (*stream_synchronize)(void *) = get<int (*)(void *)>("cuStreamSynchronize");
    int (*begin_capture)(void *, int) = get<int (*)(void *, int)>("cuStreamBeginCapture_v2");
    int (*end_capture)(void *, void **) = get<int (*)(void *, void **)>("cuStreamEndCapture");
    int (*instantiate)(void **, void *, unsigned long long) =
        get<int (*)(void **, void *, unsigned long long)>("cuGraphInstantiateWithFlags");
    int (*launch)(void *, void *) = get<int (*)(void *, void *)>("cuGraphLaunch");
    int (*exec_destroy)(void *) = get<int (*)(void *)>("cuGraphExecDestroy");
    int (*graph_destroy)(void *) = get<int (*)(void *)>("cuGraphDestroy");
    int (*retain)(void **, int) = get<int (*)(void **, int)>("cuDevicePrimaryCtxRetain");
    int (*push)(void *) = get<int (*)(void *)>("cuCtxPushCurrent_v2");
};

/* Makes the device's primary context current on this thread, as a program of the CUDA runtime has it, and returns it. */
inline void *enter(const Driver &driver)
{
    void *primary = nullptr;
    if (driver.retain(&primary, 0) != 0 || driver.push(primary) != 0)
        throw Failure("the device's primary context cannot be entered");
    return primary;
}

/* All bytes of a file. */
inline std::vector<char> bytes_of(const std::string &path)
{
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (!file)
        throw Failure("cannot read " + path);
    std::fseek(file, 0, SEEK_END);
    std::vector<char> bytes(static_cast<size_t>(std::ftell(file)));
    std::rewind(file);
    size_t got = std::fread(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
    if (got != bytes.size())
        throw Failure("cannot read all of " + path);
    return bytes;
}

/* The plan inside an engine file of Mezzo's. */
inline std::vector<char> plan_of(const std::string &path)
{
    std::vector<char> bytes = bytes_of(path);
    uint32_t sections = 0;
    std::memcpy(&sections, bytes.data() + 12, 4);
    for (uint32_t i = 0; i < sections; i++) {
        const char *entry = bytes.data() + 32 + 48 * i;
        uint64_t offset = 0, length = 0;
        std::memcpy(&offset, entry + 16, 8);
        std::memcpy(&length, entry + 24, 8);
        if (std::strncmp(entry, "plan", 16) == 0)
            return {bytes.begin() + static_cast<long>(offset), bytes.begin() + static_cast<long>(offset + length)};
    }
    throw Failure("no plan in " + path);
}

struct Io {
    std::string name;
    std::vector<int64_t> dims; // of an input
    size_t bytes;
    Buffer device, host;
};

/* Memory for one execution, used by either side. */
struct Memory {
    std::vector<Io> inputs, outputs;
};

using Shapes = std::map<std::string, std::vector<int64_t>>;

inline Memory memory_for(const mezzo_engine_t *engine, const Shapes &shapes)
{
    Memory memory;
    auto context = MAKE(Context, mezzo_context_new, engine);
    for (size_t i = 0; i < mezzo_engine_input_count(engine); i++) {
        std::string name = mezzo_io_name(mezzo_engine_input(engine, i));
        const std::vector<int64_t> &dims = shapes.at(name);
        mezzo_value_t *raw = nullptr;
        MUST(mezzo_engine_random_input(engine, name.c_str(), dims.data(), dims.size(), 1 + i, &raw));
        Value value(raw);
        MUST(mezzo_context_bind(context.get(), name.c_str(), value.get()));
        size_t bytes = mezzo_value_byte_size(value.get());
        Io io{name, dims, bytes, MAKE(Buffer, mezzo_buffer_new_device, size_t(0), bytes),
              MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), bytes)};
        MUST(mezzo_buffer_copy_in(io.device.get(), 0, mezzo_value_data(value.get()), bytes));
        memory.inputs.push_back(std::move(io));
    }
    MUST(mezzo_context_run(context.get(), nullptr));
    for (size_t i = 0; i < mezzo_engine_output_count(engine); i++) {
        std::string name = mezzo_io_name(mezzo_engine_output(engine, i));
        auto value = MAKE(Value, mezzo_context_output, context.get(), name.c_str());
        size_t bytes = mezzo_value_byte_size(value.get());
        memory.outputs.push_back({name, {}, bytes, MAKE(Buffer, mezzo_buffer_new_device, size_t(0), bytes),
                                  MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), bytes)});
    }
    return memory;
}

inline void bind_side(mezzo_context_t *context, const Memory &memory)
{
    for (const Io &io : memory.inputs) {
        MUST(mezzo_context_bind_buffer(context, io.name.c_str(), io.device.get(), 0));
        MUST(mezzo_context_set_input_shape(context, io.name.c_str(), io.dims.data(), io.dims.size()));
    }
    for (const Io &io : memory.outputs)
        MUST(mezzo_context_bind_buffer(context, io.name.c_str(), io.device.get(), 0));
}

inline Context mezzo_side(const mezzo_engine_t *engine, const Memory &memory)
{
    auto context = MAKE(Context, mezzo_context_new, engine);
    bind_side(context.get(), memory);
    return context;
}

inline void bare_side(bare::Context &context, const Memory &memory)
{
    for (const Io &io : memory.inputs) {
        context.shape(io.name.c_str(), io.dims);
        context.address(io.name.c_str(), mezzo_buffer_data(io.device.get()));
    }
    for (const Io &io : memory.outputs)
        context.address(io.name.c_str(), mezzo_buffer_data(io.device.get()));
}

/* What the benchmarks are told. */
struct Arguments {
    std::string library, engine;
    // As given: "x=Nx3x224x224", where N stands for the batch.
    std::vector<std::string> shapes;
    std::vector<int> batches{1};
    int rounds = 5, threads = 0, iterations = 20000;

    Arguments(int argc, char **argv)
    {
        for (int i = 1; i + 1 < argc; i += 2) {
            std::string option = argv[i], value = argv[i + 1];
            if (option == "--library")
                library = value;
            else if (option == "--engine")
                engine = value;
            else if (option == "--shape")
                shapes.push_back(value);
            else if (option == "--rounds")
                rounds = std::stoi(value);
            else if (option == "--threads")
                threads = std::stoi(value);
            else if (option == "--iterations")
                iterations = std::stoi(value);
            else if (option == "--batches") {
                batches.clear();
                std::stringstream list(value);
                for (std::string item; std::getline(list, item, ',');)
                    batches.push_back(std::stoi(item));
            } else
                throw Failure("unknown option " + option);
        }
        if (library.empty() || engine.empty())
            throw Failure("--library and --engine are needed");
    }

    Shapes at(int batch) const
    {
        Shapes found;
        for (const std::string &shape : shapes) {
            size_t equals = shape.find('=');
            std::stringstream list(shape.substr(equals + 1));
            for (std::string item; std::getline(list, item, 'x');)
                found[shape.substr(0, equals)].push_back(item == "N" ? batch : std::stoll(item));
        }
        return found;
    }

    Engine load() const
    {
        EngineOptions options(mezzo_engine_options_new());
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", library.c_str()));
        return MAKE(Engine, mezzo_engine_load_file, static_cast<const mezzo_env_t *>(nullptr), engine.c_str(),
                    static_cast<const mezzo_engine_options_t *>(options.get()));
    }

    std::string nvinfer() const { return library + "/libnvinfer.so.8"; }
};

#endif
