// What an enqueue costs the host, to a microsecond: Mezzo and a bare program in turns, one execution each, on an empty stream.
//
//     host --library FOLDER --engine FILE --shape NAME=Nx1x8x8 [...] [--batches 1] [--iterations N]
//
// Prints a line of JSON for each way (eager, graph): quantiles in microseconds, and the same of the driver's calls that Mezzo makes
// beside TensorRT's enqueue or the launch of the graph. A small engine shows most.
#include "sides.hpp"

namespace {

void print(const char *name, const std::vector<double> &times)
{
    std::printf("\"%s_us\": {\"p10\": %.2f, \"p25\": %.2f, \"p50\": %.2f, \"p75\": %.2f}, ", name, quantile(times, 0.1),
                quantile(times, 0.25), quantile(times, 0.5), quantile(times, 0.75));
}

/* Two things in turns, each on an empty stream; which of them is first changes every time. */
template <class A, class B>
void take_turns(const Driver &driver, void *stream, int iterations, A first, B second, std::vector<double> &a, std::vector<double> &b)
{
    auto timed = [&](auto &work, std::vector<double> &times) {
        auto begin = Clock::now();
        work();
        double taken = micros(begin);
        driver.stream_synchronize(stream);
        times.push_back(taken);
    };
    for (int i = 0; i < iterations; i++) {
        if (i % 2 == 0)
            timed(first, a);
        timed(second, b);
        if (i % 2 == 1)
            timed(first, a);
    }
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const Arguments arguments(argc, argv);
        Driver driver;
        Engine engine = arguments.load();
        enter(driver);
        std::vector<char> plan = plan_of(arguments.engine);
        Memory memory = memory_for(engine.get(), arguments.at(arguments.batches.front()));
        auto stream = MAKE(Stream, mezzo_stream_new, size_t(0), 0);
        auto event = MAKE(Event, mezzo_event_new, size_t(0), false);
        void *cuda = mezzo_stream_cuda(stream.get()), *cuda_event = mezzo_event_cuda(event.get());
        Context context = mezzo_side(engine.get(), memory);
        bare::Context bare_context(arguments.nvinfer(), plan);
        bare_side(bare_context, memory);
        auto mezzo = [&] { MUST(mezzo_context_enqueue(context.get(), stream.get())); };
        auto bare = [&] {
            if (!bare_context.enqueue(cuda))
                throw Failure("the bare enqueue failed");
        };
        auto capturing = driver.get<int (*)(void *, int *)>("cuStreamIsCapturing");
        auto current = driver.get<int (*)(void **)>("cuCtxGetCurrent");
        auto record = driver.get<int (*)(void *, void *)>("cuEventRecord");
        auto own = [&] {
            int status = 0;
            void *found = nullptr;
            current(&found);
            capturing(cuda, &status);
            record(cuda_event, cuda);
        };
        auto report = [&](const char *way, auto other) {
            std::vector<double> ours, theirs, calls, none;
            take_turns(driver, cuda, 200, mezzo, other, ours, theirs);
            ours.clear();
            theirs.clear();
            take_turns(driver, cuda, arguments.iterations, mezzo, other, ours, theirs);
            take_turns(driver, cuda, arguments.iterations / 4, own, [] {}, calls, none);
            std::printf("{\"engine\": \"%s\", \"way\": \"%s\", \"batch\": %d, \"iterations\": %d, ", arguments.engine.c_str(), way,
                        arguments.batches.front(), arguments.iterations);
            print("mezzo", ours);
            print("bare", theirs);
            print("own_calls", calls);
            print("nothing", none);
            std::printf("\"more_p25_us\": %.2f, \"more_p50_us\": %.2f}\n", quantile(ours, 0.25) - quantile(theirs, 0.25),
                        median(ours) - median(theirs));
            std::fflush(stdout);
        };
        report("eager", bare);

        MUST(mezzo_context_set_cuda_graph(context.get(), true));
        void *graph = nullptr, *exec = nullptr;
        driver.begin_capture(cuda, 1);
        bare();
        driver.end_capture(cuda, &graph);
        if (driver.instantiate(&exec, graph, 0) != 0)
            throw Failure("the bare graph was not made");
        report("graph", [&] { driver.launch(exec, cuda); });
        driver.exec_destroy(exec);
        driver.graph_destroy(graph);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "host: %s\n", e.what());
        return 1;
    }
}
