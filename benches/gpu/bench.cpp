// Mezzo beside a bare TensorRT program on the same plan, in one process, taking turns (docs/gpu.md).
//
//     bench --library FOLDER --engine FILE --shape NAME=Nx3x224x224 [...] [--batches 1,8,32] [--rounds N] [--threads N]
//
// Prints a line of JSON for each batch: milliseconds on the device per execution (back to back), microseconds on the host per
// enqueue (the stream empty), with and without a CUDA graph; copies alone; executions per second of several threads at the first
// batch.
#include "sides.hpp"

#include <atomic>
#include <functional>
#include <thread>

namespace {

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

/* A graph of the bare program's. */
struct BareGraph {
    void *graph = nullptr, *exec = nullptr;
    const Driver &driver;

    BareGraph(const Driver &driver, bare::Context &context, const Memory &memory, void *stream) : driver(driver)
    {
        bare_side(context, memory);
        context.enqueue(stream);
        driver.stream_synchronize(stream);
        driver.begin_capture(stream, 1);
        context.enqueue(stream);
        driver.end_capture(stream, &graph);
        if (driver.instantiate(&exec, graph, 0) != 0)
            throw Failure("the bare graph was not made");
    }
    BareGraph(const BareGraph &) = delete;
    ~BareGraph()
    {
        driver.exec_destroy(exec);
        driver.graph_destroy(graph);
    }
};

/* Executions per second of threads of either side. */
void compare_threads(const Driver &driver, void *primary, const mezzo_engine_t *engine, const std::string &file,
                     const std::vector<char> &plan, const Shapes &shapes, int threads)
{
    auto mezzo_thread = [&]() -> std::function<void()> {
        auto own = std::make_shared<Memory>(memory_for(engine, shapes));
        std::shared_ptr<mezzo_context_t> context(mezzo_side(engine, *own).release(), mezzo_context_free);
        std::shared_ptr<mezzo_stream_t> stream(MAKE(Stream, mezzo_stream_new, size_t(0), 0).release(), mezzo_stream_free);
        return [=] {
            MUST(mezzo_context_enqueue(context.get(), stream.get()));
            driver.stream_synchronize(mezzo_stream_cuda(stream.get()));
        };
    };
    std::atomic_flag opening = ATOMIC_FLAG_INIT;
    auto bare_thread = [&]() -> std::function<void()> {
        driver.push(primary);
        auto own = std::make_shared<Memory>(memory_for(engine, shapes));
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

} // namespace

int main(int argc, char **argv)
{
    try {
        const Arguments arguments(argc, argv);
        Driver driver;
        Engine engine = arguments.load();
        void *primary = enter(driver);
        std::string file = arguments.nvinfer();
        std::vector<char> plan = plan_of(arguments.engine);
        // A context of its own for the bare graph, since a context's graph and its enqueues share memory.
        bare::Context bare_context(file, plan), captured_context(file, plan);
        for (int batch : arguments.batches) {
            const Shapes shapes = arguments.at(batch);
            Memory memory = memory_for(engine.get(), shapes);
            auto stream = MAKE(Stream, mezzo_stream_new, size_t(0), 0);
            void *cuda = mezzo_stream_cuda(stream.get());
            Context eager = mezzo_side(engine.get(), memory), replayed = mezzo_side(engine.get(), memory);
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
            BareGraph graph(driver, captured_context, memory, cuda);
            auto run_bare_graph = [&] { driver.launch(graph.exec, cuda); };
            auto run_copies = [&] {
                for (const Io &io : memory.inputs)
                    MUST(mezzo_buffer_copy_async(io.device.get(), 0, io.host.get(), 0, io.bytes, stream.get()));
                for (const Io &io : memory.outputs)
                    MUST(mezzo_buffer_copy_async(io.host.get(), 0, io.device.get(), 0, io.bytes, stream.get()));
            };

            Times warm;
            measure(driver, stream.get(), 10, warm, run_eager);
            int count = std::clamp(static_cast<int>(100.0 / warm.device_ms[0]), 20, 1000);
            Times times[5];
            for (int round = 0; round < arguments.rounds; round++) {
                measure(driver, stream.get(), count, times[0], run_eager);
                measure(driver, stream.get(), count, times[1], run_bare);
                measure(driver, stream.get(), count, times[2], run_replayed);
                measure(driver, stream.get(), count, times[3], run_bare_graph);
                measure(driver, stream.get(), std::min(count, 100), times[4], run_copies);
            }
            uint64_t replays = 0;
            MUST(mezzo_context_graph_counts(replayed.get(), nullptr, &replays));
            std::printf("{\"engine\": \"%s\", \"batch\": %d, ", arguments.engine.c_str(), batch);
            print("mezzo", times[0]);
            print("bare", times[1]);
            print("mezzo_graph", times[2]);
            print("bare_graph", times[3]);
            print("copies", times[4]);
            if (arguments.threads > 0 && batch == arguments.batches.front())
                compare_threads(driver, primary, engine.get(), file, plan, shapes, arguments.threads);
            std::printf("\"replays\": %llu, \"rounds\": %d, \"count\": %d}\n", static_cast<unsigned long long>(replays),
                        arguments.rounds, count);
            std::fflush(stdout);
        }
    } catch (const std::exception &e) {
        std::fprintf(stderr, "bench: %s\n", e.what());
        return 1;
    }
}
