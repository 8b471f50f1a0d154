// Memory that is shared: with other frameworks by DLPack, and between contexts for their activations.
#include "cuda.hpp"
#include "digits.hpp"
#include "tests.hpp"

std::string test_dlpack(const Setup &setup)
{
    const Digits &d = digits(setup);
    std::vector<float> want = d.run(d.half.get(), 32);
    Stream first = new_stream(), second = new_stream();
    Bound bound(setup, 32);
    // What is still being computed on one stream is used on another, and its owners go at once.
    for (int i = 0; i < (setup.quick ? 3 : 100); i++) {
        auto context = MAKE(Context, mezzo_context_new, bound.engine);
        Value image = d.value(bound.engine, 32);
        size_t bytes = mezzo_value_byte_size(image.get());
        auto pinned = MAKE(Buffer, mezzo_buffer_new_pinned, size_t(0), bytes);
        std::memcpy(mezzo_buffer_data(pinned.get()), mezzo_value_data(image.get()), bytes);
        auto pooled = MAKE(Buffer, mezzo_buffer_new_async, static_cast<const mezzo_stream_t *>(first.get()), bytes);
        MUST(mezzo_buffer_copy_async(pooled.get(), 0, pinned.get(), 0, bytes, first.get()));
        const int64_t dims[] = {32, 1, 8, 8};
        mezzo_value_t *raw = nullptr;
        MUST(mezzo_value_from_buffer(pooled.get(), 0, MEZZO_DTYPE_FP16, dims, 4, &raw));
        Value device(raw);
        void *tensor = nullptr;
        MUST(mezzo_value_to_dlpack(device.get(), first.get(), second.get(), &tensor));
        device.reset();
        pooled.reset();
        MUST(mezzo_value_from_dlpack(tensor, nullptr, nullptr, &raw));
        Value again(raw);
        MUST(mezzo_context_bind(context.get(), input_name(bound.engine), again.get()));
        again.reset();
        MUST(mezzo_context_enqueue(context.get(), second.get()));
        auto result = MAKE(Value, mezzo_context_output, context.get(), output_name(bound.engine));
        context.reset();
        MUST(mezzo_value_to_dlpack(result.get(), second.get(), first.get(), &tensor));
        result.reset();
        MUST(mezzo_value_from_dlpack(tensor, nullptr, nullptr, &raw));
        Value back(raw);
        MUST(mezzo_stream_synchronize(first.get()));
        EXPECT(numbers(back.get()) == want);
    }
    MUST(mezzo_stream_synchronize(second.get()));
    EXPECT(mezzo_device_collect() == 0);
    return "device memory given away and taken back, between two streams";
}

std::string test_shared_memory(const Setup &setup)
{
    const Digits &d = digits(setup);
    using ContextMemory = Handle<mezzo_context_memory_t, mezzo_context_memory_free>;
    auto memory = MAKE(ContextMemory, mezzo_context_memory_new, size_t(0));
    EXPECT(mezzo_context_memory_byte_size(memory.get()) == 0);
    const mezzo_engine_t *engines[] = {d.half.get(), d.single.get()};
    in_threads(4, [&](size_t t) {
        const mezzo_engine_t *engine = engines[t % 2];
        size_t count = 1 + t * 140, element = t % 2 ? 4 : 2;
        Context context = MAKE(Context, mezzo_context_new_sharing, engine,
                               static_cast<const mezzo_context_memory_t *>(memory.get()));
        int64_t bytes = 0;
        MUST(mezzo_context_activation_bytes(context.get(), &bytes));
        EXPECT(bytes >= 0 && mezzo_context_memory_byte_size(memory.get()) >= static_cast<size_t>(bytes));
        MUST(mezzo_context_set_cuda_graph(context.get(), t >= 2));
        Stream stream = new_stream();
        auto input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::PIXELS * element);
        auto result = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::CLASSES * element);
        Value value = d.value(engine, count);
        MUST(mezzo_buffer_copy_in(input.get(), 0, mezzo_value_data(value.get()), mezzo_value_byte_size(value.get())));
        const int64_t dims[] = {static_cast<int64_t>(count), 1, 8, 8};
        MUST(mezzo_context_bind_buffer(context.get(), input_name(engine), input.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), input_name(engine), dims, 4));
        MUST(mezzo_context_bind_buffer(context.get(), output_name(engine), result.get(), 0));
        std::vector<float> want = d.run(engine, count);
        for (int i = 0; i < (setup.quick ? 3 : 300); i++) {
            MUST(mezzo_buffer_fill_async(result.get(), 0, 0xff, count * Digits::CLASSES * element, stream.get()));
            MUST(mezzo_context_enqueue(context.get(), stream.get()));
            if (i % 3)
                continue;
            MUST(mezzo_stream_synchronize(stream.get()));
            EXPECT(output(context.get(), output_name(engine)) == want);
        }
        MUST(mezzo_stream_synchronize(stream.get()));
    });
    // A capture of the caller's could not wait for its turn.
    Cuda cuda;
    Bound bound(setup, 32);
    bound.context = MAKE(Context, mezzo_context_new_sharing, bound.engine, static_cast<const mezzo_context_memory_t *>(memory.get()));
    bound.bind();
    Stream stream = new_stream();
    MUST(mezzo_context_enqueue(bound.context.get(), stream.get()));
    MUST(mezzo_stream_synchronize(stream.get()));
    void *cuda_stream = mezzo_stream_cuda(stream.get()), *graph = nullptr;
    cuda.call("cuStreamBeginCapture_v2", cuda_stream, 2);
    REFUSED(mezzo_context_enqueue(bound.context.get(), stream.get()), MEZZO_ERROR_UNSUPPORTED, "shares the memory");
    cuda.call("cuStreamEndCapture", cuda_stream, &graph);
    cuda.call("cuGraphDestroy", graph);
    EXPECT(bound.result() == d.run(bound.engine, 32));
    mezzo_context_t *none = nullptr;
    REFUSED(mezzo_context_new_sharing(d.cpu_half.get(), memory.get(), &none), MEZZO_ERROR_UNSUPPORTED, "mezzo_context_new");
    return "4 contexts of two engines in 4 threads on " + std::to_string(mezzo_context_memory_byte_size(memory.get())) +
           " bytes, eager and replayed";
}

std::string test_pool(const Setup &setup)
{
    const Digits &d = digits(setup);
    using Pool = Handle<mezzo_context_pool_t, mezzo_context_pool_free>;
    auto pool = MAKE(Pool, mezzo_context_pool_new, static_cast<const mezzo_engine_t *>(d.half.get()), size_t(3));
    in_threads(8, [&](size_t t) {
        size_t count = 1 + t * 11;
        const int64_t dims[] = {static_cast<int64_t>(count), 1, 8, 8};
        std::vector<float> want = d.run(d.half.get(), count);
        Value image = d.value(d.half.get(), count);
        Stream stream = new_stream();
        for (int i = 0; i < (setup.quick ? 3 : 100); i++) {
            auto input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::PIXELS * 2);
            auto result = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::CLASSES * 2);
            MUST(mezzo_buffer_copy_in(input.get(), 0, mezzo_value_data(image.get()), mezzo_value_byte_size(image.get())));
            mezzo_context_t *context = nullptr;
            MUST(mezzo_context_pool_acquire(pool.get(), -1, &context));
            MUST(mezzo_context_bind_buffer(context, input_name(d.half.get()), input.get(), 0));
            MUST(mezzo_context_set_input_shape(context, input_name(d.half.get()), dims, 4));
            MUST(mezzo_context_bind_buffer(context, output_name(d.half.get()), result.get(), 0));
            MUST(mezzo_context_enqueue(context, stream.get()));
            // Given back while it works: the next thread's execution follows on the device.
            MUST(mezzo_context_pool_release(pool.get(), context));
            MUST(mezzo_stream_synchronize(stream.get()));
            std::vector<uint16_t> halves(count * Digits::CLASSES);
            std::vector<float> got(halves.size());
            MUST(mezzo_buffer_copy_out(result.get(), 0, halves.data(), halves.size() * 2));
            MUST(mezzo_convert_f16_to_f32(halves.data(), halves.size(), got.data()));
            EXPECT(got == want);
        }
    });
    return "8 threads on 3 contexts, given back while they work";
}
