// Several devices in one process: each engine stays on its own, and what is of another device is refused.
#include "cuda.hpp"
#include "digits.hpp"
#include "tests.hpp"

namespace {

constexpr size_t ROWS = 32, IN = ROWS * Digits::PIXELS * 2, OUT = ROWS * Digits::CLASSES * 2;

void need_two()
{
    size_t count = 0;
    MUST(mezzo_device_count(&count));
    if (count < 2)
        throw Skipped("one device");
}

Stream stream_of(size_t device, int32_t priority = 0) { return MAKE(Stream, mezzo_stream_new, device, priority); }
Buffer memory_of(size_t device, size_t bytes) { return MAKE(Buffer, mezzo_buffer_new_device, device, bytes); }

/* The digits' half engine, on a device. */
Engine digits_on(const Setup &setup, size_t device)
{
    digits(setup); // which leaves the file
    return load(setup, setup.scratch + "/suite-half.engine", device);
}

/* Bytes of an input, and what a result in memory is. */
void put(const Setup &setup, const mezzo_engine_t *engine, mezzo_buffer_t *input)
{
    Value value = digits(setup).value(engine, ROWS);
    MUST(mezzo_buffer_copy_in(input, 0, mezzo_value_data(value.get()), mezzo_value_byte_size(value.get())));
}

std::vector<float> logits(const mezzo_buffer_t *memory)
{
    std::vector<uint16_t> halves(OUT / 2);
    std::vector<float> floats(halves.size());
    MUST(mezzo_buffer_copy_out(memory, 0, halves.data(), OUT));
    MUST(mezzo_convert_f16_to_f32(halves.data(), halves.size(), floats.data()));
    return floats;
}

void bind(mezzo_context_t *context, const mezzo_engine_t *engine, mezzo_buffer_t *input, mezzo_buffer_t *result)
{
    const int64_t dims[] = {ROWS, 1, 8, 8};
    MUST(mezzo_context_bind_buffer(context, input_name(engine), input, 0));
    MUST(mezzo_context_set_input_shape(context, input_name(engine), dims, 4));
    MUST(mezzo_context_bind_buffer(context, output_name(engine), result, 0));
}

/* What is of another device than the engine. */
void refusals(const mezzo_engine_t *engine, mezzo_context_t *context, mezzo_buffer_t *input, mezzo_buffer_t *result,
              const mezzo_stream_t *stream)
{
    Stream wrong_stream = stream_of(0);
    Buffer wrong_in = memory_of(0, IN), wrong_out = memory_of(0, OUT);
    const char *text = "memory of device 0";
    bind(context, engine, wrong_in.get(), result);
    REFUSED(mezzo_context_enqueue(context, stream), MEZZO_ERROR_INVALID_ARGUMENT, text);
    REFUSED(mezzo_context_run(context, nullptr), MEZZO_ERROR_INVALID_ARGUMENT, text);
    bind(context, engine, input, wrong_out.get());
    REFUSED(mezzo_context_enqueue(context, stream), MEZZO_ERROR_INVALID_ARGUMENT, text);
    REFUSED(mezzo_context_run(context, nullptr), MEZZO_ERROR_INVALID_ARGUMENT, text);
    bind(context, engine, input, result);
    REFUSED(mezzo_context_enqueue(context, wrong_stream.get()), MEZZO_ERROR_INVALID_ARGUMENT, "stream is of device 0");
    REFUSED(mezzo_buffer_fill_async(result, 0, 0, 4, wrong_stream.get()), MEZZO_ERROR_INVALID_ARGUMENT, "stream is of device 0");
    REFUSED(mezzo_buffer_convert_async(result, 0, MEZZO_DTYPE_FP16, wrong_in.get(), 0, MEZZO_DTYPE_FP32, 8, stream),
            MEZZO_ERROR_INVALID_ARGUMENT, text);
    auto wrong_event = MAKE(Event, mezzo_event_new, size_t(0), false);
    REFUSED(mezzo_event_record(wrong_event.get(), stream), MEZZO_ERROR_INVALID_ARGUMENT, "cannot be recorded");
    mezzo_buffer_t *none = nullptr;
    REFUSED(mezzo_buffer_from_device_memory(0, mezzo_buffer_data(result), OUT, nullptr, nullptr, &none),
            MEZZO_ERROR_INVALID_ARGUMENT, "not memory of device 0");
    mezzo_stream_t *foreign = nullptr;
    REFUSED(mezzo_stream_from_cuda(0, mezzo_stream_cuda(stream), &foreign), MEZZO_ERROR_INVALID_ARGUMENT, "primary context");
    using ContextMemory = Handle<mezzo_context_memory_t, mezzo_context_memory_free>;
    auto shared = MAKE(ContextMemory, mezzo_context_memory_new, size_t(0));
    mezzo_context_t *sharing = nullptr;
    REFUSED(mezzo_context_new_sharing(engine, shared.get(), &sharing), MEZZO_ERROR_INVALID_ARGUMENT, "memory is of device 0");
}

/* From device 0 to device 1 and back, and what the streams order. */
void copies(const mezzo_stream_t *second)
{
    const size_t bytes = size_t(1) << 24;
    std::vector<float> sent = noise(bytes / 4, 5), back(sent.size());
    Stream first = stream_of(0);
    auto done = MAKE(Event, mezzo_event_new, size_t(0), false);
    for (int round = 0; round < 4; round++) {
        Buffer there = memory_of(1, bytes), home = memory_of(0, bytes);
        {
            // Let go right after the copy is enqueued; the stream that copies is of the one device or of the other.
            Buffer from = round % 2 ? MAKE(Buffer, mezzo_buffer_new_async, static_cast<const mezzo_stream_t *>(first.get()), bytes)
                                    : memory_of(0, bytes);
            auto pinned = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(round / 2), bytes);
            std::memcpy(mezzo_buffer_data(pinned.get()), sent.data(), bytes);
            MUST(mezzo_buffer_copy_async(from.get(), 0, pinned.get(), 0, bytes, first.get()));
            if (round < 2) {
                MUST(mezzo_buffer_copy_async(there.get(), 0, from.get(), 0, bytes, first.get()));
                MUST(mezzo_event_record(done.get(), first.get()));
                MUST(mezzo_stream_wait_event(second, done.get()));
            } else {
                MUST(mezzo_event_record(done.get(), first.get()));
                MUST(mezzo_stream_wait_event(second, done.get()));
                MUST(mezzo_buffer_copy_async(there.get(), 0, from.get(), 0, bytes, second));
            }
        }
        Buffer other = memory_of(0, bytes);
        MUST(mezzo_buffer_fill_async(other.get(), 0, 0x55, bytes, first.get()));
        MUST(mezzo_buffer_copy_async(home.get(), 0, there.get(), 0, bytes, second));
        there.reset();
        MUST(mezzo_stream_synchronize(second));
        MUST(mezzo_stream_synchronize(first.get()));
        MUST(mezzo_buffer_copy_out(home.get(), 0, back.data(), bytes));
        EXPECT(back == sent);
        sent[0] += 1;
    }
}

/* DLPack says which device memory is of. */
void shared_out(const mezzo_buffer_t *memory, const mezzo_stream_t *stream)
{
    const int64_t dims[] = {ROWS, Digits::CLASSES};
    mezzo_value_t *raw = nullptr;
    MUST(mezzo_value_from_buffer(memory, 0, MEZZO_DTYPE_FP16, dims, 2, &raw));
    Value value(raw);
    void *tensor = nullptr;
    MUST(mezzo_value_to_dlpack(value.get(), stream, stream, &tensor));
    // Behind version, context, deleter and flags stands the tensor: its data, then kind and number of its device.
    const auto *place = reinterpret_cast<const int32_t *>(static_cast<const char *>(tensor) + 40);
    EXPECT(place[0] == 2 && place[1] == 1);
    MUST(mezzo_value_from_dlpack(tensor, nullptr, nullptr, &raw));
    Value again(raw);
    mezzo_buffer_t *buffer = nullptr;
    size_t offset = 0;
    MUST(mezzo_value_buffer(again.get(), &buffer, &offset));
    Buffer owned(buffer);
    EXPECT(mezzo_buffer_device(buffer) == 1);
}

} // namespace

std::string test_two_devices(const Setup &setup)
{
    need_two();
    const Digits &d = digits(setup);
    std::vector<float> want = d.run(d.half.get(), ROWS);
    // The caller works on device 0 throughout.
    Cuda cuda;
    int first = 0;
    void *primary = nullptr, *current = nullptr;
    cuda.call("cuDeviceGet", &first, 0);
    cuda.call("cuDevicePrimaryCtxRetain", &primary, first);
    cuda.call("cuCtxPushCurrent_v2", primary);
    const mezzo_device_t *device = nullptr;
    MUST(mezzo_device_get(1, &device));
    {
        Engine engine = digits_on(setup, 1);
        EXPECT(d.run(engine.get(), ROWS) == want);
        auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
        Stream stream = stream_of(1, -1);
        Buffer input = memory_of(1, IN), result = memory_of(1, OUT);
        EXPECT(mezzo_buffer_device(result.get()) == 1);
        put(setup, engine.get(), input.get());
        bind(context.get(), engine.get(), input.get(), result.get());
        for (bool graph : {false, true}) {
            MUST(mezzo_context_set_cuda_graph(context.get(), graph));
            for (int i = 0; i < 3; i++) {
                MUST(mezzo_buffer_fill_async(result.get(), 0, 0xff, OUT, stream.get()));
                MUST(mezzo_context_enqueue(context.get(), stream.get()));
                MUST(mezzo_stream_synchronize(stream.get()));
                EXPECT(logits(result.get()) == want);
            }
        }
        // Made by the execution: on the engine's device.
        MUST(mezzo_context_unbind(context.get(), output_name(engine.get())));
        MUST(mezzo_context_enqueue(context.get(), stream.get()));
        auto made = MAKE(Value, mezzo_context_output, context.get(), output_name(engine.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(numbers(made.get()) == want);
        refusals(engine.get(), context.get(), input.get(), result.get(), stream.get());
        copies(stream.get());
        shared_out(result.get(), stream.get());
        bind(context.get(), engine.get(), input.get(), result.get());
        MUST(mezzo_context_enqueue(context.get(), stream.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(logits(result.get()) == want);
        cuda.call("cuCtxGetCurrent", &current);
        EXPECT(current == primary);
    }
    if (!setup.quick) {
        EngineOptions options(mezzo_engine_options_new());
        const char *sources = std::getenv("MEZZO_TACTIC_SOURCES");
        std::string path = setup.digits + "/digits.onnx";
        auto model = MAKE(Model, mezzo_model_load_file, static_cast<const mezzo_env_t *>(nullptr), path.c_str(),
                          static_cast<const mezzo_load_options_t *>(nullptr));
        MUST(mezzo_engine_options_set_device(options.get(), 1));
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tactic_sources",
                                      sources ? sources : "edge_mask_convolutions,jit_convolutions"));
        MUST(mezzo_engine_options_set(options.get(), "tensorrt.tf32", "false"));
        MUST(mezzo_engine_options_set(options.get(), "profile", Digits::PROFILE));
        auto built = MAKE(Engine, mezzo_engine_build, static_cast<const mezzo_env_t *>(nullptr),
                          static_cast<const mezzo_model_t *>(model.get()), "tensorrt",
                          static_cast<const mezzo_engine_options_t *>(options.get()));
        EXPECT(difference(d.run(built.get(), ROWS), d.run(d.single.get(), ROWS)) < 1e-4);
    }
    EXPECT(mezzo_device_collect() == 0);
    cuda.call("cuCtxGetCurrent", &current);
    EXPECT(current == primary);
    cuda.call("cuCtxPopCurrent_v2", &current);
    return std::string(mezzo_device_name(device)) + ": built and executed there, with memory and streams of device 0 refused, copies "
           "from device to device, DLPack; the caller's context stays current";
}

std::string test_two_devices_at_once(const Setup &setup)
{
    need_two();
    std::vector<float> want = digits(setup).run(digits(setup).half.get(), ROWS);
    Engine engines[] = {digits_on(setup, 0), digits_on(setup, 1)};
    int rounds = setup.quick ? 5 : 1000;
    // Four threads, so that two are on one device; each changes its device in between.
    in_threads(4, [&](size_t t) {
        for (size_t turn = 0; turn < 2; turn++) {
            size_t place = (t + turn) % 2;
            const mezzo_engine_t *engine = engines[place].get();
            auto context = MAKE(Context, mezzo_context_new, engine);
            Stream stream = stream_of(place);
            Buffer input = memory_of(place, IN), result = memory_of(place, OUT);
            put(setup, engine, input.get());
            bind(context.get(), engine, input.get(), result.get());
            for (int i = 0; i < rounds; i++) {
                MUST(mezzo_buffer_fill_async(result.get(), 0, 0xff, OUT, stream.get()));
                MUST(mezzo_context_enqueue(context.get(), stream.get()));
                if (i % 10)
                    continue;
                MUST(mezzo_stream_synchronize(stream.get()));
                std::vector<float> got = logits(result.get());
                if (got != want)
                    throw Failure("device " + std::to_string(place) + ", execution " + std::to_string(i) + ": off by " +
                                  std::to_string(difference(got, want)));
            }
            MUST(mezzo_stream_synchronize(stream.get()));
        }
    });
    EXPECT(mezzo_device_collect() == 0);
    return "4 threads on 2 engines of 2 devices, " + std::to_string(rounds) + " executions on each";
}
