// Mezzo beside a bare TensorRT program on the same plan, in one process, taking turns (docs/gpu.md).
//
//     bench --library FOLDER --engine FILE --shape NAME=1x3x224x224 [...] [--rounds N] [--threads N]
//
// Prints a line of JSON: milliseconds on the device per execution (back to back), microseconds on the host per enqueue (the
// stream empty), with and without a CUDA graph; copies alone; load times; executions per second of several threads.
#include "../../tests/gpu/check.hpp"
#include "bare.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

double micros(Clock::time_point from) { return std::chrono::duration<double, std::micro>(Clock::now() - from).count(); }

double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

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
    int (*stream_synchronize)(void *) = get<int (*)(void *)>("cuStreamSynchronize");
    int (*begin_capture)(void *, int) = get<int (*)(void *, int)>("cuStreamBeginCapture_v2");
    int (*end_capture)(void *, void **) = get<int (*)(void *, void **)>("cuStreamEndCapture");
    int (*instantiate)(void **, void *, unsigned long long) =
        get<int (*)(void **, void *, unsigned long long)>("cuGraphInstantiateWithFlags");
    int (*launch)(void *, void *) = get<int (*)(void *, void *)>("cuGraphLaunch");
    int (*retain)(void **, int) = get<int (*)(void **, int)>("cuDevicePrimaryCtxRetain");
    int (*push)(void *) = get<int (*)(void *)>("cuCtxPushCurrent_v2");
};

std::vector<char> plan_of(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
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

Memory memory_for(const mezzo_engine_t *engine, const Shapes &shapes)
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

Context mezzo_side(const mezzo_engine_t *engine, const Memory &memory)
{
    auto context = MAKE(Context, mezzo_context_new, engine);
    for (const Io &io : memory.inputs) {
        MUST(mezzo_context_bind_buffer(context.get(), io.name.c_str(), io.device.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), io.name.c_str(), io.dims.data(), io.dims.size()));
    }
    for (const Io &io : memory.outputs)
        MUST(mezzo_context_bind_buffer(context.get(), io.name.c_str(), io.device.get(), 0));
    return context;
}

void bare_side(bare::Context &context, const Memory &memory)
{
    for (const Io &io : memory.inputs) {
        context.shape(io.name.c_str(), io.dims);
        context.address(io.name.c_str(), mezzo_buffer_data(io.device.get()));
    }
    for (const Io &io : memory.outputs)
        context.address(io.name.c_str(), mezzo_buffer_data(io.device.get()));
}

/* Milliseconds on the device per execution, back to back, and microseconds on the host per enqueue on an empty stream. */
struct Times {
    std::vector<double> device_ms, host_us;
};

template <class F> void measure(const Driver &driver, const mezzo_stream_t *stream, int count, Times &times, F enqueue)
{
    auto start = MAKE(Event, mezzo_event_new, size_t(0), true), end = MAKE(Event, mezzo_event_new, size_t(0), true);
    void *cuda = mezzo_stream_cuda(stream);
    MUST(mezzo_event_record(start.get(), stream));
    for (int i = 0; i < count; i++)
        enqueue();
    MUST(mezzo_event_record(end.get(), stream));
    driver.stream_synchronize(cuda);
    float ms = 0;
    MUST(mezzo_event_elapsed(start.get(), end.get(), &ms));
    times.device_ms.push_back(static_cast<double>(ms) / count);
    std::vector<double> host;
    for (int i = 0; i < std::min(count, 100); i++) {
        auto begin = Clock::now();
        enqueue();
        host.push_back(micros(begin));
        driver.stream_synchronize(cuda);
    }
    times.host_us.push_back(median(host));
}

void print(const char *name, const Times &times)
{
    std::printf("\"%s_ms\": %.4f, \"%s_host_us\": %.2f, ", name, median(times.device_ms), name, median(times.host_us));
}

/* Executions per second of several threads with a context, a stream and memory each. */
template <class Make> double throughput(int threads, double seconds, Make make)
{
    std::atomic<int> ready{0};
    std::atomic<bool> go{false}, stop{false};
    std::atomic<long> done{0};
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; t++)
        pool.emplace_back([&] {
            auto step = make();
            for (int i = 0; i < 3; i++)
                step();
            ready++;
            while (!go)
                std::this_thread::yield();
            long own = 0;
            while (!stop) {
                step();
                own++;
            }
            done += own;
        });
    while (ready < threads)
        std::this_thread::yield();
    auto begin = Clock::now();
    go = true;
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    for (std::thread &thread : pool)
        thread.join();
    return static_cast<double>(done) / (micros(begin) / 1e6);
}

} // namespace

int main(int argc, char **argv)
{
    std::string library, path;
    Shapes shapes;
    int rounds = 7, threads = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string option = argv[i], value = argv[i + 1];
        if (option == "--library")
            library = value;
        else if (option == "--engine")
            path = value;
        else if (option == "--rounds")
            rounds = std::stoi(value);
        else if (option == "--threads")
            threads = std::stoi(value);
        else if (option == "--shape") {
            size_t equals = value.find('=');
            std::vector<int64_t> dims;
            for (size_t at = equals + 1; at < value.size(); at = value.find('x', at) == std::string::npos ? value.size() : value.find('x', at) + 1)
                dims.push_back(std::stoll(value.substr(at)));
            shapes[value.substr(0, equals)] = dims;
        }
    }
    try {
        Driver driver;
        EngineOptions options(mezzo_engine_options_new());
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", library.c_str()));
        mezzo_engine_t *raw = nullptr;
        MUST(mezzo_engine_load_file(nullptr, path.c_str(), options.get(), &raw));
        MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(raw)); // warms the library and the driver up
        mezzo_engine_free(raw);

        void *primary = nullptr;
        driver.retain(&primary, 0);
        driver.push(primary);
        auto begin = Clock::now();
        raw = nullptr;
        MUST(mezzo_engine_load_file(nullptr, path.c_str(), options.get(), &raw));
        Engine engine(raw);
        MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(raw));
        double load = micros(begin) / 1e3;
        std::string file = library + "/libnvinfer.so.8";
        begin = Clock::now();
        std::vector<char> plan = plan_of(path);
        bare::Context bare_context(file, plan);
        double bare_load = micros(begin) / 1e3;
        std::printf("{\"engine\": \"%s\", \"load_ms\": %.1f, \"bare_load_ms\": %.1f, ", path.c_str(), load, bare_load);

        Memory memory = memory_for(raw, shapes);
        auto stream = MAKE(Stream, mezzo_stream_new, size_t(0), 0);
        void *cuda = mezzo_stream_cuda(stream.get());
        Context eager = mezzo_side(raw, memory), replayed = mezzo_side(raw, memory);
        MUST(mezzo_context_set_cuda_graph(replayed.get(), true));
        bare_side(bare_context, memory);
        auto run_eager = [&] { MUST(mezzo_context_enqueue(eager.get(), stream.get())); };
        auto run_replayed = [&] { MUST(mezzo_context_enqueue(replayed.get(), stream.get())); };
        auto run_bare = [&] {
            if (!bare_context.enqueue(cuda))
                throw Failure("the bare enqueue failed");
        };
        for (int i = 0; i < 5; i++) {
            run_eager();
            run_replayed();
            run_bare();
        }
        driver.stream_synchronize(cuda);
        // A context of its own for the bare graph, since a context's graph and its enqueues share memory.
        bare::Context captured_context(file, plan);
        bare_side(captured_context, memory);
        void *graph = nullptr, *exec = nullptr;
        captured_context.enqueue(cuda);
        driver.stream_synchronize(cuda);
        driver.begin_capture(cuda, 1);
        captured_context.enqueue(cuda);
        driver.end_capture(cuda, &graph);
        if (driver.instantiate(&exec, graph, 0) != 0)
            throw Failure("the bare graph was not made");
        auto run_bare_graph = [&] { driver.launch(exec, cuda); };
        auto run_copies = [&] {
            for (const Io &io : memory.inputs)
                MUST(mezzo_buffer_copy_async(io.device.get(), 0, io.host.get(), 0, io.bytes, stream.get()));
            for (const Io &io : memory.outputs)
                MUST(mezzo_buffer_copy_async(io.host.get(), 0, io.device.get(), 0, io.bytes, stream.get()));
        };

        Times warm;
        measure(driver, stream.get(), 10, warm, run_eager);
        int count = std::clamp(static_cast<int>(150.0 / warm.device_ms[0]), 20, 1000);
        Times times[5];
        for (int round = 0; round < rounds; round++) {
            measure(driver, stream.get(), count, times[0], run_eager);
            measure(driver, stream.get(), count, times[1], run_bare);
            measure(driver, stream.get(), count, times[2], run_replayed);
            measure(driver, stream.get(), count, times[3], run_bare_graph);
            measure(driver, stream.get(), std::min(count, 100), times[4], run_copies);
        }
        print("mezzo", times[0]);
        print("bare", times[1]);
        print("mezzo_graph", times[2]);
        print("bare_graph", times[3]);
        print("copies", times[4]);
        if (threads > 0) {
            auto mezzo_thread = [&]() -> std::function<void()> {
                auto own = std::make_shared<Memory>(memory_for(raw, shapes));
                std::shared_ptr<mezzo_context_t> context(mezzo_side(raw, *own).release(), mezzo_context_free);
                std::shared_ptr<mezzo_stream_t> stream(MAKE(Stream, mezzo_stream_new, size_t(0), 0).release(), mezzo_stream_free);
                return [=] {
                    MUST(mezzo_context_enqueue(context.get(), stream.get()));
                    driver.stream_synchronize(mezzo_stream_cuda(stream.get()));
                };
            };
            std::atomic_flag opening = ATOMIC_FLAG_INIT;
            auto bare_thread = [&]() -> std::function<void()> {
                driver.push(primary);
                auto own = std::make_shared<Memory>(memory_for(raw, shapes));
                while (opening.test_and_set())
                    std::this_thread::yield();
                auto context = std::make_shared<bare::Context>(file, plan);
                opening.clear();
                bare_side(*context, *own);
                std::shared_ptr<mezzo_stream_t> stream(MAKE(Stream, mezzo_stream_new, size_t(0), 0).release(), mezzo_stream_free);
                return [=] {
                    context->enqueue(mezzo_stream_cuda(stream.get()));
                    driver.stream_synchronize(mezzo_stream_cuda(stream.get()));
                    (void)own;
                };
            };
            std::vector<double> ours, theirs;
            for (int round = 0; round < 3; round++) {
                ours.push_back(throughput(threads, 1.0, mezzo_thread));
                theirs.push_back(throughput(threads, 1.0, bare_thread));
            }
            std::printf("\"threads\": %d, \"mezzo_per_s\": %.1f, \"bare_per_s\": %.1f, ", threads, median(ours), median(theirs));
        }
        std::printf("\"rounds\": %d, \"count\": %d}\n", rounds, count);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "bench: %s\n", e.what());
        return 1;
    }
}
