// Tests of devices, streams and executions on a GPU with TensorRT (docs/gpu.md). They need an NVIDIA GPU and a TensorRT
// with its ONNX parser:
//
//     suite --library FOLDER --models FOLDER --digits FOLDER --scratch FOLDER [--quick] [--only TEXT]
//
// --quick does each thing a few times only and takes the engines that a full run has left in the scratch folder: for runs under
// compute-sanitizer, which finds faults in kernels that TensorRT's builder tries out.
#include "cuda.hpp"
#include "digits.hpp"
#include "tests.hpp"

#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>

namespace {

using Clock = std::chrono::steady_clock;

long resident_kib()
{
    std::ifstream file("/proc/self/statm");
    long total = 0, resident = 0;
    file >> total >> resident;
    return resident * 4;
}

uint64_t free_memory()
{
    const mezzo_device_t *device = nullptr;
    uint64_t bytes = 0;
    MUST(mezzo_device_get(0, &device));
    MUST(mezzo_device_free_memory(device, &bytes));
    return bytes;
}

std::string test_devices(const Setup &)
{
    size_t count = 0;
    int32_t version = 0;
    MUST(mezzo_device_count(&count));
    MUST(mezzo_device_driver_version(&version));
    EXPECT(count >= 1);
    const mezzo_device_t *device = nullptr, *again = nullptr;
    MUST(mezzo_device_get(0, &device));
    MUST(mezzo_device_get(0, &again));
    EXPECT(device == again && mezzo_device_memory(device) > 0 && free_memory() <= mezzo_device_memory(device));
    REFUSED(mezzo_device_get(count, &device), MEZZO_ERROR_NOT_FOUND, "there is no CUDA device");
    return std::string(mezzo_device_name(again)) + ", compute capability " +
           std::to_string(mezzo_device_compute_capability(again)) + ", CUDA " + std::to_string(version);
}

std::string test_buffers(const Setup &)
{
    std::vector<float> sent = noise(100000, 1), back(sent.size());
    size_t bytes = sent.size() * sizeof(float);
    auto device = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), bytes);
    EXPECT(mezzo_buffer_device(device.get()) == 0 && reinterpret_cast<uintptr_t>(mezzo_buffer_data(device.get())) % 256 == 0);
    MUST(mezzo_buffer_copy_in(device.get(), 0, sent.data(), bytes));
    MUST(mezzo_buffer_copy_out(device.get(), 0, back.data(), bytes));
    EXPECT(sent == back);

    Stream stream = new_stream();
    auto pinned = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), bytes);
    auto pooled = MAKE(Buffer, mezzo_buffer_new_async, stream.get(), bytes);
    auto home = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), bytes);
    EXPECT(mezzo_buffer_device(pinned.get()) == -1 && mezzo_buffer_device(pooled.get()) == 0);
    std::memcpy(mezzo_buffer_data(pinned.get()), sent.data(), bytes);
    MUST(mezzo_buffer_copy_async(pooled.get(), 0, pinned.get(), 0, bytes, stream.get()));
    MUST(mezzo_buffer_copy_async(home.get(), 0, pooled.get(), 0, bytes, stream.get()));
    pooled.reset();
    pinned.reset();
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(std::memcmp(mezzo_buffer_data(home.get()), sent.data(), bytes) == 0);
    // Copies into the same pinned memory follow one another on the stream.
    for (int i = 0; i < 3; i++)
        MUST(mezzo_buffer_copy_async(home.get(), 0, device.get(), 0, bytes, stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));

    MUST(mezzo_buffer_fill_async(device.get(), 4, 0x41, 4, stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    uint32_t words[3];
    MUST(mezzo_buffer_copy_out(device.get(), 0, words, sizeof words));
    EXPECT(words[1] == 0x41414141 && std::memcmp(&words[0], &sent[0], 4) == 0 && std::memcmp(&words[2], &sent[2], 4) == 0);
    REFUSED(mezzo_buffer_copy_out(device.get(), bytes - 4, words, 8), MEZZO_ERROR_SIZE_MISMATCH, "do not fit");
    REFUSED(mezzo_buffer_fill_async(home.get(), 0, 0, 4, stream.get()), MEZZO_ERROR_INVALID_ARGUMENT, "host memory");
    return "synchronous, stream-ordered and pinned copies of 400000 bytes";
}

std::string test_conversions(const Setup &)
{
    std::vector<float> floats = noise(1 << 16, 2);
    for (size_t i = 0; i < floats.size(); i++)
        floats[i] *= std::ldexp(1.0f, static_cast<int>(i % 48) - 30);
    float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 65504.0f, 65519.9f, 65520.0f, 1e30f, 5.96e-8f, 2.98e-8f, 2.97e-8f,
                   1.0009765f, 1.00048828125f, 1.00146484375f, 3.4e38f, 1e-40f};
    std::copy(std::begin(odd), std::end(odd), floats.begin());
    size_t count = floats.size();
    Stream stream = new_stream();
    auto wide = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * 4);
    auto narrow = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * 2);
    auto again = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * 4);
    MUST(mezzo_buffer_copy_in(wide.get(), 0, floats.data(), count * 4));
    for (mezzo_dtype_t dtype : {MEZZO_DTYPE_FP16, MEZZO_DTYPE_BF16}) {
        MUST(mezzo_buffer_convert_async(narrow.get(), 0, dtype, wide.get(), 0, MEZZO_DTYPE_FP32, count, stream.get()));
        MUST(mezzo_buffer_convert_async(again.get(), 0, MEZZO_DTYPE_FP32, narrow.get(), 0, dtype, count, stream.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        std::vector<float> got(count);
        MUST(mezzo_buffer_copy_out(again.get(), 0, got.data(), count * 4));
        std::vector<float> want = numbers(tensor(floats, {static_cast<int64_t>(count)}, dtype).get());
        for (size_t i = 0; i < count; i++)
            if (std::memcmp(&got[i], &want[i], 4) != 0 && !(std::isnan(got[i]) && std::isnan(want[i])))
                throw Failure("element " + std::to_string(i) + ": " + std::to_string(floats[i]) + " became " +
                              std::to_string(got[i]) + " on the device, " + std::to_string(want[i]) + " on the host");
    }
    REFUSED(mezzo_buffer_convert_async(narrow.get(), 0, MEZZO_DTYPE_FP16, wide.get(), 4, MEZZO_DTYPE_FP32, count, stream.get()),
            MEZZO_ERROR_SIZE_MISMATCH, "do not fit");
    REFUSED(mezzo_buffer_convert_async(narrow.get(), 0, MEZZO_DTYPE_INT8, wide.get(), 0, MEZZO_DTYPE_FP32, 4, stream.get()),
            MEZZO_ERROR_UNSUPPORTED, "int8");
    return "65536 numbers to FP16, BF16 and back, bit for bit as on the host";
}

std::string test_events(const Setup &)
{
    Stream first = new_stream(), second = new_stream();
    auto start = MAKE(Event, mezzo_event_new, size_t(0), true), end = MAKE(Event, mezzo_event_new, size_t(0), true);
    auto untimed = MAKE(Event, mezzo_event_new, size_t(0), false);
    size_t bytes = size_t(1) << 28;
    auto buffer = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), bytes);
    MUST(mezzo_event_record(start.get(), first.get()));
    for (int i = 0; i < 10; i++)
        MUST(mezzo_buffer_fill_async(buffer.get(), 0, static_cast<uint8_t>(i), bytes, first.get()));
    MUST(mezzo_event_record(end.get(), first.get()));
    MUST(mezzo_stream_wait_event(second.get(), end.get()));
    MUST(mezzo_stream_synchronize(second.get()));
    bool done = false;
    MUST(mezzo_event_is_done(end.get(), &done));
    EXPECT(done);
    float ms = 0;
    MUST(mezzo_event_elapsed(start.get(), end.get(), &ms));
    EXPECT(ms > 0 && ms < 1000);
    REFUSED(mezzo_event_elapsed(start.get(), untimed.get(), &ms), MEZZO_ERROR_INVALID_STATE, "timing");
    const mezzo_device_t *device = nullptr;
    int32_t low = 0, high = 0;
    MUST(mezzo_device_get(0, &device));
    MUST(mezzo_device_stream_priorities(device, &low, &high));
    auto urgent = MAKE(Stream, mezzo_stream_new, size_t(0), high);
    return "10 fills of 256 MiB in " + std::to_string(ms) + " ms; priorities " + std::to_string(low) + " to " + std::to_string(high);
}

std::string test_digits(const Setup &setup)
{
    const Digits &d = digits(setup);
    size_t count = d.labels.size();
    std::vector<float> single = d.run(d.single.get(), count), half = d.run(d.half.get(), count);
    std::vector<float> reference = d.run(d.cpu_half.get(), count);
    size_t right[] = {d.right(single), d.right(half), d.right(reference)};
    EXPECT(right[0] + 1 >= right[2] && right[1] + 1 >= right[2] && right[2] >= count * 97 / 100);
    double off = difference(half, reference), wide = difference(half, single);
    EXPECT(off < 2e-2 && wide < 2e-2);
    std::string layers = mezzo_engine_inspect_json(d.half.get());
    EXPECT(layers.find("Half") != std::string::npos || layers.find("half") != std::string::npos);
    return "right of " + std::to_string(count) + ": FP32 " + std::to_string(right[0]) + ", FP16 " + std::to_string(right[1]) +
           ", CPU's FP16 " + std::to_string(right[2]) + "; FP16 off by " + std::to_string(off) + " of the CPU's, " +
           std::to_string(wide) + " of FP32";
}

void expect_counts(const Bound &bound, uint64_t captured, uint64_t replayed)
{
    uint64_t got[2];
    MUST(mezzo_context_graph_counts(bound.context.get(), &got[0], &got[1]));
    if (got[0] != captured || got[1] != replayed)
        throw Failure(std::to_string(got[0]) + " captures and " + std::to_string(got[1]) + " replays, expected " +
                      std::to_string(captured) + " and " + std::to_string(replayed));
}

std::string test_enqueue(const Setup &setup)
{
    const Digits &d = digits(setup);
    Bound bound(setup, 32);
    Stream stream = new_stream();
    std::vector<float> want = d.run(bound.engine, 32);
    for (int graph = 0; graph < 2; graph++) {
        MUST(mezzo_context_set_cuda_graph(bound.context.get(), graph == 1));
        expect_counts(bound, 0, 0);
        for (int i = 0; i < 5; i++) {
            bound.poison(stream.get());
            MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
            MUST(mezzo_stream_synchronize(stream.get()));
            EXPECT(bound.result() == want);
        }
        // The first is plain, the second is captured, and all from it on are launches of the graph.
        expect_counts(bound, graph, graph * 4);
        // Another shape: what was captured is captured anew.
        bound.count = 7;
        bound.bind();
        std::vector<float> seven = d.run(bound.engine, 7);
        for (int i = 0; i < 4; i++) {
            bound.poison(stream.get());
            MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
            MUST(mezzo_stream_synchronize(stream.get()));
            EXPECT(bound.result() == seven);
        }
        expect_counts(bound, graph * 2, graph * 7);
        bound.count = 32;
        bound.bind();
    }
    // The legacy default stream replays too.
    auto legacy = MAKE(Stream, mezzo_stream_from_cuda, size_t(0), static_cast<void *>(nullptr));
    for (int i = 0; i < 4; i++) {
        bound.poison(legacy.get());
        MUST(mezzo_context_enqueue(bound.context.get(), legacy.get()));
        MUST(mezzo_stream_synchronize(legacy.get()));
        EXPECT(bound.result() == want);
    }
    // An output that is not bound gets memory of its own in each call.
    MUST(mezzo_context_set_cuda_graph(bound.context.get(), false));
    MUST(mezzo_context_unbind(bound.context.get(), output_name(bound.engine)));
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    auto first = MAKE(Value, mezzo_context_output, bound.context.get(), output_name(bound.engine));
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    auto second = MAKE(Value, mezzo_context_output, bound.context.get(), output_name(bound.engine));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(mezzo_value_data(first.get()) != mezzo_value_data(second.get()));
    EXPECT(numbers(first.get()) == want && numbers(second.get()) == want);
    return "eager and replayed (counted), two shapes, default stream, outputs not bound";
}

std::string test_refusals(const Setup &setup)
{
    const Digits &d = digits(setup);
    Bound bound(setup, 32);
    Stream stream = new_stream();
    const char *input = input_name(bound.engine), *output_of = output_name(bound.engine);
    Value host = d.value(bound.engine, 32);
    MUST(mezzo_context_bind(bound.context.get(), input, host.get()));
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_INVALID_ARGUMENT, "host memory");
    Value wide = tensor(d.some(32), {32, 1, 8, 8}, MEZZO_DTYPE_FP32);
    REFUSED(mezzo_context_bind(bound.context.get(), input, wide.get()), MEZZO_ERROR_TYPE_MISMATCH, "8192 bytes");
    bound.bind();
    const int64_t many[] = {451, 1, 8, 8};
    auto large = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(451 * 64 * 2));
    MUST(mezzo_context_bind_buffer(bound.context.get(), input, large.get(), 0));
    MUST(mezzo_context_set_input_shape(bound.context.get(), input, many, 4));
    MUST(mezzo_context_unbind(bound.context.get(), output_of));
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_SHAPE_MISMATCH, "profile");
    bound.bind();
    MUST(mezzo_context_bind_buffer(bound.context.get(), output_of, large.get(), 2));
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_INVALID_ARGUMENT, "multiple of the 256");
    auto small = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(638));
    bound.bind();
    MUST(mezzo_context_bind_buffer(bound.context.get(), output_of, small.get(), 0));
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_SIZE_MISMATCH, "640");
    mezzo_buffer_t *none = nullptr;
    REFUSED(mezzo_buffer_new_device(0, size_t(1) << 45, &none), MEZZO_ERROR_OUT_OF_MEMORY, "allocate");
    EXPECT(none == nullptr);
    REFUSED(mezzo_buffer_from_device_memory(0, mezzo_value_data(host.get()), 64, nullptr, nullptr, &none),
            MEZZO_ERROR_INVALID_ARGUMENT, "not memory of device");
    // After all that it works.
    bound.bind();
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(bound.result() == d.run(bound.engine, 32));
    return "host memory, types, profile, alignment, size, out of memory; and it still works";
}

std::string test_borrowed(const Setup &setup)
{
    const Digits &d = digits(setup);
    Cuda cuda;
    Bound bound(setup, 32);
    std::vector<float> want = d.run(bound.engine, 32);
    // The caller's own context stays current through every call; here it is not even the device's primary one.
    int device = 0;
    void *own = nullptr, *primary = nullptr, *current = nullptr;
    cuda.call("cuDeviceGet", &device, 0);
    cuda.call("cuDevicePrimaryCtxRetain", &primary, device);
    cuda.call("cuCtxPushCurrent_v2", primary);
    void *cuda_stream = nullptr;
    uint64_t address = 0;
    cuda.call("cuStreamCreate", &cuda_stream, 1u);
    cuda.call("cuMemAlloc_v2", &address, size_t(32 * 10 * 2));
    cuda.call("cuCtxPopCurrent_v2", &current);
    cuda.call("cuCtxCreate_v2", &own, 0u, device);
    {
        auto stream = MAKE(Stream, mezzo_stream_from_cuda, size_t(0), cuda_stream);
        EXPECT(mezzo_stream_cuda(stream.get()) == cuda_stream);
        static std::atomic<int> released{0};
        mezzo_buffer_t *raw = nullptr;
        MUST(mezzo_buffer_from_device_memory(0, reinterpret_cast<void *>(address), 32 * 10 * 2,
                                             [](void *) { released++; }, nullptr, &raw));
        bound.output.reset(raw);
        bound.bind();
        MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(bound.result() == want);
        cuda.call("cuCtxGetCurrent", &current);
        EXPECT(current == own);
        bound.output.reset();
        EXPECT(released == 0);
        bound.context.reset();
        mezzo_device_collect();
        EXPECT(released == 1);
    }
    if (!setup.quick) {
        Engine again = build(setup, setup.digits + "/digits.onnx", true, Digits::PROFILE);
        EXPECT(difference(d.run(again.get(), 32), want) < 2e-2);
        cuda.call("cuCtxGetCurrent", &current);
        EXPECT(current == own);
    }
    mezzo_stream_t *wrong = nullptr;
    void *foreign = nullptr;
    cuda.call("cuStreamCreate", &foreign, 1u);
    REFUSED(mezzo_stream_from_cuda(0, foreign, &wrong), MEZZO_ERROR_INVALID_ARGUMENT, "primary context");
    cuda.call("cuCtxDestroy_v2", own);
    cuda.call("cuCtxPushCurrent_v2", primary);
    cuda.call("cuMemFree_v2", address);
    cuda.call("cuStreamDestroy_v2", cuda_stream);
    cuda.call("cuCtxPopCurrent_v2", &current);
    return "stream and memory of the caller's, under another context of the caller's, which stays current";
}

std::string test_capture(const Setup &setup)
{
    const Digits &d = digits(setup);
    Cuda cuda;
    Bound bound(setup, 32);
    Stream stream = new_stream();
    void *cuda_stream = mezzo_stream_cuda(stream.get()), *graph = nullptr, *exec = nullptr;
    // TensorRT wants one execution of a shape before a capture.
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    int device = 0;
    void *primary = nullptr;
    cuda.call("cuDeviceGet", &device, 0);
    cuda.call("cuDevicePrimaryCtxRetain", &primary, device);
    cuda.call("cuCtxPushCurrent_v2", primary);
    cuda.call("cuStreamBeginCapture_v2", cuda_stream, 1);
    MUST(mezzo_buffer_fill_async(bound.output.get(), 0, 0xff, 640, stream.get()));
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    bound.bind();
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_INVALID_STATE, "captured");
    cuda.call("cuStreamEndCapture", cuda_stream, &graph);
    cuda.call("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    for (int i = 0; i < 3; i++) {
        bound.poison(stream.get());
        cuda.call("cuGraphLaunch", exec, cuda_stream);
        MUST(mezzo_stream_synchronize(stream.get()));
        EXPECT(bound.result() == d.run(bound.engine, 32));
    }
    cuda.call("cuGraphExecDestroy", exec);
    cuda.call("cuGraphDestroy", graph);
    cuda.call("cuCtxPopCurrent_v2", &primary);
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(bound.result() == d.run(bound.engine, 32));
    return "a graph of the caller's, three launches; binding during the capture refused";
}

std::string test_lifetimes(const Setup &setup)
{
    const Digits &d = digits(setup);
    std::vector<float> want = d.run(d.half.get(), 32);
    int rounds = setup.quick ? 5 : 300;
    Stream streams[] = {new_stream(), new_stream()};
    auto busy = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(1) << 26);
    for (int i = 0; i < rounds; i++) {
        const mezzo_stream_t *stream = streams[i % 2].get();
        auto home = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), size_t(640));
        {
            Bound bound(setup, 32);
            MUST(mezzo_context_set_cuda_graph(bound.context.get(), i % 3 == 0));
            // Work that lasts, so that everything below is freed before the execution begins.
            MUST(mezzo_buffer_fill_async(busy.get(), 0, 1, size_t(1) << 26, stream));
            for (int k = 0; k < 3; k++)
                MUST(mezzo_context_enqueue(bound.context.get(), stream));
            MUST(mezzo_buffer_copy_async(home.get(), 0, bound.output.get(), 0, 640, stream));
        }
        // Memory of the same size, which would be the freed one, written on the other stream.
        auto other = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), size_t(32 * 64 * 2));
        MUST(mezzo_buffer_fill_async(other.get(), 0, 0x7f, 32 * 64 * 2, streams[1 - i % 2].get()));
        MUST(mezzo_stream_synchronize(stream));
        std::vector<float> got(320);
        MUST(mezzo_convert_f16_to_f32(static_cast<const uint16_t *>(mezzo_buffer_data(home.get())), 320, got.data()));
        EXPECT(got == want);
    }
    for (auto &stream : streams)
        MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(mezzo_device_collect() == 0);
    return std::to_string(rounds) + " contexts and their buffers freed right after enqueue";
}

std::string test_two_streams(const Setup &setup)
{
    const Digits &d = digits(setup);
    Bound bound(setup, 32);
    std::vector<float> want = d.run(bound.engine, 32);
    Stream streams[] = {new_stream(), new_stream()};
    auto home = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), size_t(640));
    int rounds = setup.quick ? 5 : 500;
    for (int i = 0; i < rounds; i++) {
        MUST(mezzo_context_enqueue(bound.context.get(), streams[0].get()));
        MUST(mezzo_context_enqueue(bound.context.get(), streams[1].get()));
        MUST(mezzo_buffer_copy_async(home.get(), 0, bound.output.get(), 0, 640, streams[1].get()));
        MUST(mezzo_stream_synchronize(streams[1].get()));
        std::vector<float> got(320);
        MUST(mezzo_convert_f16_to_f32(static_cast<const uint16_t *>(mezzo_buffer_data(home.get())), 320, got.data()));
        EXPECT(got == want);
        MUST(mezzo_stream_synchronize(streams[0].get()));
    }
    return std::to_string(rounds) + " rounds of one context on two streams";
}

std::string test_threads(const Setup &setup)
{
    const Digits &d = digits(setup);
    int rounds = setup.quick ? 3 : 200;
    in_threads(8, [&](size_t t) {
        size_t count = 1 + t * 7;
        Bound bound(setup, count);
        Stream stream = new_stream();
        std::vector<float> want = d.run(bound.engine, count);
        for (int i = 0; i < rounds; i++) {
            bound.poison(stream.get());
            MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
            MUST(mezzo_stream_synchronize(stream.get()));
            EXPECT(bound.result() == want);
        }
    });
    return "8 threads with a context each, " + std::to_string(rounds) + " executions each";
}

std::string test_cycles(const Setup &setup)
{
    const Digits &d = digits(setup);
    int cycles = setup.quick ? 20 : 10000;
    Stream stream = new_stream();
    Value value = d.value(d.half.get(), 32);
    auto cycle = [&](int i) {
        Bound bound(setup, 32);
        if (i % 2) {
            MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
            if (i % 16 == 1)
                MUST(mezzo_stream_synchronize(stream.get()));
        } else {
            MUST(mezzo_context_bind(bound.context.get(), input_name(bound.engine), value.get()));
            MUST(mezzo_context_run(bound.context.get(), nullptr));
        }
    };
    for (int i = 0; i < (setup.quick ? 10 : 200); i++)
        cycle(i);
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(mezzo_device_collect() == 0);
    uint64_t device = free_memory();
    long host = resident_kib();
    auto begin = Clock::now();
    for (int i = 0; i < cycles; i++)
        cycle(i);
    MUST(mezzo_stream_synchronize(stream.get()));
    EXPECT(mezzo_device_collect() == 0);
    double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    long long device_grown = static_cast<long long>(device) - static_cast<long long>(free_memory());
    long host_grown = resident_kib() - host;
    std::string said = std::to_string(cycles) + " cycles in " + std::to_string(seconds) + " s; device memory grew by " +
                       std::to_string(device_grown) + " bytes, host memory by " + std::to_string(host_grown) + " KiB";
    // A quick run may have company on the device.
    if (!setup.quick && (device_grown > 0 || host_grown > 4096))
        throw Failure(said);
    return said;
}

std::string test_profile(const Setup &setup)
{
    const Digits &d = digits(setup);
    auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(d.half.get()));
    Value value = d.value(d.half.get(), 32);
    MUST(mezzo_context_bind(context.get(), input_name(d.half.get()), value.get()));
    MUST(mezzo_context_set_profiling(context.get(), true));
    MUST(mezzo_context_run(context.get(), nullptr));
    struct Sum {
        int layers = 0;
        float ms = 0;
    } sum;
    MUST(mezzo_context_layer_times(
        context.get(),
        [](void *user, const char *, float ms) {
            auto *sum = static_cast<Sum *>(user);
            sum->layers++;
            sum->ms += ms;
        },
        &sum));
    EXPECT(sum.layers > 0 && sum.ms > 0);
    MUST(mezzo_context_set_profiling(context.get(), false));
    MUST(mezzo_context_run(context.get(), nullptr));
    return std::to_string(sum.layers) + " layers, " + std::to_string(sum.ms) + " ms";
}

const std::pair<const char *, std::function<std::string(const Setup &)>> TESTS[] = {
    {"devices", test_devices},     {"buffers", test_buffers},   {"conversions", test_conversions},
    {"events", test_events},       {"digits", test_digits},     {"enqueue", test_enqueue},
    {"refusals", test_refusals},   {"borrowed", test_borrowed}, {"capture", test_capture},
    {"lifetimes", test_lifetimes}, {"two streams", test_two_streams}, {"threads", test_threads},
    {"files", test_files},         {"profile", test_profile},   {"data decides", test_data_decides},
    {"mixed", test_mixed},         {"branches", test_branches},
    {"shape input", test_shape_input}, {"profiles", test_profiles}, {"half required", test_half_required},
    {"dlpack", test_dlpack},       {"shared memory", test_shared_memory}, {"pool", test_pool},
    {"two devices", test_two_devices}, {"both at once", test_two_devices_at_once},
    {"other device", test_other_device}, {"memory full", test_memory_full}, {"cycles", test_cycles},
};

} // namespace

int main(int argc, char **argv)
{
    Setup setup;
    std::string only;
    for (int i = 1; i < argc; i++) {
        std::string option = argv[i];
        auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
        if (option == "--library")
            setup.library = value();
        else if (option == "--models")
            setup.models = value();
        else if (option == "--digits")
            setup.digits = value();
        else if (option == "--scratch")
            setup.scratch = value();
        else if (option == "--only")
            only = value();
        else if (option == "--quick")
            setup.quick = true;
        else {
            std::fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        }
    }
    size_t devices = 0;
    std::string none = message_of(mezzo_device_count(&devices));
    if (!none.empty() || devices == 0) {
        std::printf("SKIPPED: no CUDA device: %s\n", none.c_str());
        return 0;
    }
    int failed = 0;
    for (const auto &[name, test] : TESTS) {
        if (std::string(name).find(only) == std::string::npos)
            continue;
        auto begin = Clock::now();
        std::string said, mark = "ok    ";
        try {
            said = test(setup);
        } catch (const Skipped &reason) {
            said = reason.what();
            mark = "SKIP  ";
        } catch (const std::exception &e) {
            said = e.what();
            mark = "FAILED";
            failed++;
        }
        double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
        std::printf("%s  %-12s %6.1f s  %s\n", mark.c_str(), name, seconds, said.c_str());
        std::fflush(stdout);
    }
    std::printf("%d failed\n", failed);
    return failed != 0;
}
