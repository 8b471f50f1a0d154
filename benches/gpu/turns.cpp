// Cost told apart from chance: several contexts of Mezzo's and of a bare program on one plan, in turns (docs/gpu.md).
//
//     turns --library FOLDER --engine FILE --shape NAME=Nx3x224x224 [...] [--batches 1,8,32] [--rounds N] [--threads CONTEXTS]
//
// Contexts of one side differ too, by where their memory lies: the spread among the bare ones is what a ratio cannot be blamed
// on. In every round each context has one short turn, in an order that changes; of each the median is taken. Prints a line of
// JSON for each batch and way (eager, graph): milliseconds per execution of each context.
#include "sides.hpp"

#include <functional>
#include <numeric>

namespace {

struct Side {
    bool ours;
    std::function<void()> enqueue;
    std::vector<double> ms;
};

void list(const char *name, const std::vector<Side> &sides, bool ours)
{
    std::printf("\"%s_ms\": [", name);
    const char *comma = "";
    for (const Side &side : sides)
        if (side.ours == ours) {
            std::printf("%s%.4f", comma, median(side.ms));
            comma = ", ";
        }
    std::printf("], ");
}

/* The ratio of both sides round by round: what slows a whole round down is in neither. */
double ratio(const std::vector<Side> &sides)
{
    std::vector<double> ratios;
    for (size_t round = 0; round < sides[0].ms.size(); round++) {
        double sums[2] = {0, 0};
        for (const Side &side : sides)
            sums[side.ours] += side.ms[round];
        ratios.push_back(sums[1] / sums[0]);
    }
    return median(ratios);
}

void measure(const char *engine, const char *way, int batch, int rounds, const mezzo_stream_t *stream, std::vector<Side> &sides)
{
    auto start = MAKE(Event, mezzo_event_new, size_t(0), true), end = MAKE(Event, mezzo_event_new, size_t(0), true);
    auto turn = [&](Side &side, int count) {
        MUST(mezzo_event_record(start.get(), stream));
        for (int i = 0; i < count; i++)
            side.enqueue();
        MUST(mezzo_event_record(end.get(), stream));
        MUST(mezzo_stream_synchronize(stream));
        float ms = 0;
        MUST(mezzo_event_elapsed(start.get(), end.get(), &ms));
        return static_cast<double>(ms) / count;
    };
    for (Side &side : sides)
        turn(side, 5);
    int count = std::clamp(static_cast<int>(25.0 / turn(sides[0], 10)), 5, 100);
    std::vector<size_t> order(sides.size());
    std::iota(order.begin(), order.end(), 0);
    uint64_t random = 1;
    for (int round = 0; round < rounds; round++) {
        for (size_t i = order.size(); i > 1; i--) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            std::swap(order[i - 1], order[(random >> 33) % i]);
        }
        for (size_t i : order)
            sides[i].ms.push_back(turn(sides[i], count));
    }
    std::printf("{\"engine\": \"%s\", \"way\": \"%s\", \"batch\": %d, ", engine, way, batch);
    list("mezzo", sides, true);
    list("bare", sides, false);
    std::printf("\"ratio\": %.4f, \"rounds\": %d, \"count\": %d}\n", ratio(sides), rounds, count);
    std::fflush(stdout);
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const Arguments arguments(argc, argv);
        const int contexts = std::max(arguments.threads, 2);
        Driver driver;
        Engine engine = arguments.load();
        enter(driver);
        std::vector<char> plan = plan_of(arguments.engine);
        // Memory for the largest batch, which the smaller ones use too; contexts of both sides are opened in turns.
        int largest = *std::max_element(arguments.batches.begin(), arguments.batches.end());
        Memory memory = memory_for(engine.get(), arguments.at(largest));
        std::vector<Context> ours;
        std::vector<std::unique_ptr<bare::Context>> theirs;
        for (int i = 0; i < contexts; i++) {
            if (i % 2)
                theirs.push_back(std::make_unique<bare::Context>(arguments.nvinfer(), plan));
            ours.push_back(MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get())));
            if (i % 2 == 0)
                theirs.push_back(std::make_unique<bare::Context>(arguments.nvinfer(), plan));
        }
        auto stream = MAKE(Stream, mezzo_stream_new, size_t(0), 0);
        void *cuda = mezzo_stream_cuda(stream.get());
        for (int batch : arguments.batches) {
            for (Io &io : memory.inputs)
                io.dims = arguments.at(batch).at(io.name);
            std::vector<Side> eager, replayed;
            std::vector<std::pair<void *, void *>> graphs;
            for (int i = 0; i < contexts; i++) {
                mezzo_context_t *context = ours[static_cast<size_t>(i)].get();
                bare::Context *other = theirs[static_cast<size_t>(i)].get();
                MUST(mezzo_context_set_cuda_graph(context, false));
                bind_side(context, memory);
                bare_side(*other, memory);
                eager.push_back({true, [=, &stream] { MUST(mezzo_context_enqueue(context, stream.get())); }, {}});
                eager.push_back({false, [=] {
                                     if (!other->enqueue(cuda))
                                         throw Failure("the bare enqueue failed");
                                 }, {}});
            }
            measure(arguments.engine.c_str(), "eager", batch, arguments.rounds, stream.get(), eager);
            for (int i = 0; i < contexts; i++) {
                mezzo_context_t *context = ours[static_cast<size_t>(i)].get();
                MUST(mezzo_context_set_cuda_graph(context, true));
                bare::Context *other = theirs[static_cast<size_t>(i)].get();
                void *graph = nullptr, *exec = nullptr;
                driver.begin_capture(cuda, 1);
                other->enqueue(cuda);
                driver.end_capture(cuda, &graph);
                if (driver.instantiate(&exec, graph, 0) != 0)
                    throw Failure("the bare graph was not made");
                graphs.emplace_back(graph, exec);
                replayed.push_back({true, [=, &stream] { MUST(mezzo_context_enqueue(context, stream.get())); }, {}});
                replayed.push_back({false, [=, &driver] { driver.launch(exec, cuda); }, {}});
            }
            measure(arguments.engine.c_str(), "graph", batch, arguments.rounds, stream.get(), replayed);
            for (auto [graph, exec] : graphs) {
                driver.exec_destroy(exec);
                driver.graph_destroy(graph);
            }
        }
    } catch (const std::exception &e) {
        std::fprintf(stderr, "turns: %s\n", e.what());
        return 1;
    }
}
