// Which calls TensorRT 8.5 and 8.6 make for an output whose size the data decides, and where they write it (docs/tensorrt.md).
// A bare program on select.onnx of tests/gpu/models.py, built with the profile x=1:1000:4096:
//
//     allocator --library FOLDER --engine FILE
//
// Each way of telling TensorRT where to write is tried in a context of its own. For every execution it prints what TensorRT
// asked and told, and in which of the memories that it was ever given the right values are.
#include "../../benches/gpu/sides.hpp"

namespace {

struct Driver8 : Driver {
    int (*fill)(uint64_t, unsigned char, size_t) = get<int (*)(uint64_t, unsigned char, size_t)>("cuMemsetD8_v2");
    int (*download)(void *, uint64_t, size_t) = get<int (*)(void *, uint64_t, size_t)>("cuMemcpyDtoH_v2");
};

/* All memory that was ever given, poisoned before each execution. */
struct Memories {
    static constexpr size_t ROOM = 4096 * 8;
    std::vector<Buffer> all;

    void *make()
    {
        all.push_back(MAKE(Buffer, mezzo_buffer_new_device, size_t(0), ROOM));
        return mezzo_buffer_data(all.back().get());
    }
    std::string name(const void *address) const
    {
        for (size_t i = 0; i < all.size(); i++)
            if (mezzo_buffer_data(all[i].get()) == address)
                return "M" + std::to_string(i);
        return address ? "elsewhere" : "null";
    }
};

/* TensorRT 8's IOutputAllocator: the order of these functions is that of its virtual table. */
struct Allocator {
    Memories &memories;
    bool fresh;
    void *kept = nullptr;
    size_t room = 0;
    std::string said;

    Allocator(Memories &memories, bool fresh) : memories(memories), fresh(fresh) {}
    virtual int32_t version() const noexcept { return 1; }
    virtual void *reallocate(const char *, void *current, uint64_t size, uint64_t alignment) noexcept
    {
        if (!kept || fresh || size > room) {
            kept = memories.make();
            room = fresh ? Memories::ROOM : size; // the memory has more room than it says, so that nothing is overwritten
        }
        said += " asked(current " + memories.name(current) + ", " + std::to_string(size) + " bytes, aligned to " +
                std::to_string(alignment) + ") -> " + memories.name(kept);
        return kept;
    }
    virtual void notify(const char *, const bare::Dims &dims) noexcept
    {
        said += " told[";
        for (int i = 0; i < dims.rank; i++)
            said += (i ? "," : "") + std::to_string(dims.sizes[i]);
        said += "]";
    }
    virtual ~Allocator() = default;
};

enum class Way { Grows, OtherEachTime, SetEachTime, Address, AddressOnly };
const std::pair<Way, const char *> WAYS[] = {
    {Way::Grows, "an allocator, set once, which grows its memory"},
    {Way::OtherEachTime, "an allocator, set once, which gives other memory each time"},
    {Way::SetEachTime, "another allocator before each execution"},
    {Way::Address, "an allocator, set once, and the address of other memory before each execution"},
    {Way::AddressOnly, "no allocator, the address of large memory"},
};

/* What changes between executions, and what TensorRT is told before each. */
struct Circumstances {
    const char *name;
    bool shapes = false, input = false, stream = false;
    // inferShapes is called; each is executed twice; address and shape are told only where they change; allocators are set after
    // inferShapes; the optimization profile is chosen before the first.
    bool infer = false, twice = false, lazy_address = false, lazy_shape = false, late = false, profile = false;
    // An output's shape or its largest size is asked for before the execution, and then: the address, the shape, another shape and
    // the shape are told again.
    bool ask_shape = false, ask_size = false, then_address = false, then_shape = false, then_toggle = false, then_infer = false;
};

std::vector<Circumstances> circumstances()
{
    std::vector<Circumstances> list;
    auto add = [&](const char *name, auto set) {
        list.push_back({name});
        set(list.back());
    };
    using C = Circumstances;
    add("the data change", [](C &) {});
    add("the data change, addresses and shapes are told once", [](C &c) { c.lazy_address = c.lazy_shape = true; });
    add("the input's address changes", [](C &c) { c.input = true; });
    add("the input's address changes, shapes are told once", [](C &c) { c.input = c.lazy_shape = true; });
    add("the input's address changes, shapes are told once, inferShapes", [](C &c) { c.input = c.lazy_shape = c.infer = true; });
    add("the stream changes", [](C &c) { c.stream = true; });
    add("shapes change", [](C &c) { c.shapes = true; });
    add("shapes change, addresses are told once", [](C &c) { c.shapes = c.lazy_address = true; });
    add("shapes change, addresses are told once, inferShapes", [](C &c) { c.shapes = c.lazy_address = c.infer = true; });
    add("shapes change, addresses are told once, twice", [](C &c) { c.shapes = c.lazy_address = c.infer = c.twice = true; });
    add("shapes change, allocators after inferShapes", [](C &c) { c.shapes = c.infer = c.late = true; });
    add("all change, inferShapes", [](C &c) { c.shapes = c.input = c.stream = c.infer = true; });
    add("all change, inferShapes, a profile is chosen", [](C &c) { c.shapes = c.input = c.stream = c.infer = c.profile = true; });
    add("all change, told only then, allocators after inferShapes, a profile is chosen",
        [](C &c) { c.shapes = c.input = c.stream = c.infer = c.lazy_shape = c.late = c.profile = true; });
    add("shapes change, asked for an output's shape", [](C &c) { c.shapes = c.ask_shape = true; });
    add("shapes change, asked for the largest size", [](C &c) { c.shapes = c.ask_size = true; });
    add("shapes change, asked for an output's shape, address lazy", [](C &c) { c.shapes = c.ask_shape = c.lazy_address = true; });
    add("shapes change, asked for the largest size, address lazy", [](C &c) { c.shapes = c.ask_size = c.lazy_address = true; });
    add("shapes change, inferShapes, asked for an output's shape", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = true; });
    add("the same, then inferShapes", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = c.then_infer = true; });
    add("the same, then the address", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = c.then_address = true; });
    add("the same, then the shape", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = c.then_shape = true; });
    add("the same, then another shape and the shape", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = c.then_toggle = true; });
    add("the same, executed twice", [](C &c) { c.shapes = c.infer = c.ask_shape = c.lazy_address = c.twice = true; });
    return list;
}

void attempt(const Driver8 &driver, bare::Context &context, Way way, const Circumstances &circumstances)
{
    Memories memories, positions_memories;
    std::vector<std::unique_ptr<Allocator>> values, positions;
    Buffer inputs[] = {MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4)),
                       MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(4096 * 4))};
    Stream streams[] = {MAKE(Stream, mezzo_stream_new, size_t(0), 0), MAKE(Stream, mezzo_stream_new, size_t(0), 0)};
    auto set = [&](const char *name, Allocator *allocator) { return bare::call<bool>(context.context, 39, name, allocator); };
    bool fresh = way == Way::OtherEachTime;
    const size_t sizes[] = {1000, 1000, 17, 4096, 1000, 1, 4000, 1000};
    size_t before = 0;
    for (size_t i = 0; i < 8; i++) {
        size_t count = circumstances.shapes ? sizes[i] : 1000;
        std::vector<float> sent = noise(count, i), want;
        std::vector<int32_t> places;
        // A share of positive numbers that changes, so that the size does too.
        const float biases[] = {0, 0.5f, -0.5f, 0.9f, -0.9f, 0, 2, -2};
        for (size_t k = 0; k < count; k++)
            if ((sent[k] += circumstances.shapes ? 0 : biases[i]) > 0) {
                want.push_back(sent[k]);
                places.push_back(static_cast<int32_t>(k));
            }
        const Buffer &input = inputs[circumstances.input ? i % 2 : 0];
        const Stream &stream = streams[circumstances.stream ? i % 2 : 0];
        MUST(mezzo_buffer_copy_in(input.get(), 0, sent.data(), count * 4));
        if (circumstances.profile && i == 0)
            bare::call<bool>(context.context, 25, 0, mezzo_stream_cuda(stream.get()));
        if (i == 0 || !circumstances.lazy_address || circumstances.input)
            context.address("x", mezzo_buffer_data(input.get()));
        if (i == 0 || !circumstances.lazy_shape || count != before)
            context.shape("x", {static_cast<int64_t>(count)});
        before = count;
        int missing = 0;
        const char *names[4];
        auto infer = [&] { missing = bare::call<int>(context.context, 35, 4, static_cast<const char **>(names)); };
        if (circumstances.infer && circumstances.late)
            infer();
        if (values.empty() || way == Way::SetEachTime) {
            values.push_back(std::make_unique<Allocator>(memories, fresh));
            positions.push_back(std::make_unique<Allocator>(positions_memories, fresh));
            set("where", positions.back().get());
            set("values", way == Way::AddressOnly ? nullptr : values.back().get());
        }
        Allocator &allocator = *values.back();
        if (way == Way::Address || (way == Way::AddressOnly && i == 0))
            context.address("values", memories.make());
        if (circumstances.infer && !circumstances.late)
            infer();
        if (circumstances.ask_shape)
            bare::call<bare::Dims>(context.context, 30, "values");
        if (circumstances.ask_size)
            bare::call<int64_t>(context.context, 41, "values");
        if (circumstances.then_infer)
            infer();
        if (circumstances.then_address)
            context.address("x", mezzo_buffer_data(input.get()));
        if (circumstances.then_toggle)
            context.shape("x", {count == 5 ? 6 : 5});
        if (circumstances.then_shape || circumstances.then_toggle)
            context.shape("x", {static_cast<int64_t>(count)});
        for (const Memories *m : {&memories, &positions_memories})
            for (const Buffer &memory : m->all)
                driver.fill(reinterpret_cast<uint64_t>(mezzo_buffer_data(memory.get())), 0xff, Memories::ROOM);
        bool done = true;
        for (int time = 0; time < (circumstances.twice ? 2 : 1); time++)
            done = context.enqueue(mezzo_stream_cuda(stream.get())) && done;
        MUST(mezzo_stream_synchronize(stream.get()));
        auto found = [&](const Memories &m, const void *right, size_t bytes) {
            std::string names;
            std::vector<char> there(bytes);
            for (size_t k = 0; k < m.all.size(); k++) {
                driver.download(there.data(), reinterpret_cast<uint64_t>(mezzo_buffer_data(m.all[k].get())), bytes);
                if (std::memcmp(there.data(), right, bytes) == 0)
                    names += " M" + std::to_string(k);
            }
            return bytes == 0 ? " (empty)" : names.empty() ? " NONE" : names;
        };
        std::printf("  %zu of %zu, %zu bytes%s%s:%s; right in%s, positions in%s\n", want.size(), count, want.size() * 4,
                    missing ? ", inferShapes misses inputs" : "", done ? "" : ", REFUSED", allocator.said.c_str(),
                    found(memories, want.data(), want.size() * 4).c_str(),
                    found(positions_memories, places.data(), places.size() * 4).c_str());
        allocator.said.clear();
    }
    set("values", nullptr);
    set("where", nullptr);
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const Arguments arguments(argc, argv);
        Driver8 driver;
        enter(driver);
        std::vector<char> plan = plan_of(arguments.engine);
        for (const auto &[way, name] : WAYS)
            for (const Circumstances &circumstances : circumstances()) {
                std::printf("%s; %s\n", name, circumstances.name);
                bare::Context context(arguments.nvinfer(), plan);
                attempt(driver, context, way, circumstances);
                std::fflush(stdout);
            }
    } catch (const std::exception &e) {
        std::fprintf(stderr, "allocator: %s\n", e.what());
        return 1;
    }
}
