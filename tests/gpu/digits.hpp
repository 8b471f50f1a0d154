// The digits model on a device, as the tests use it.
#ifndef MEZZO_GPU_DIGITS_HPP
#define MEZZO_GPU_DIGITS_HPP

#include "check.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>

inline std::vector<char> read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    return std::vector<char>(std::istreambuf_iterator<char>(file), {});
}

inline void write_file(const std::string &path, const std::vector<char> &bytes)
{
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/* The digits model with ranges of batch, built once. */
struct Digits {
    static constexpr size_t PIXELS = 64, CLASSES = 10;
    static constexpr const char *PROFILE = "image=1x1x8x8:32x1x8x8:450x1x8x8";
    std::vector<float> images;
    std::vector<int> labels;
    Engine single, half, cpu_half;

    explicit Digits(const Setup &setup)
    {
        std::string model = setup.digits + "/digits.onnx";
        single = built(setup, model, false);
        half = built(setup, model, true);
        cpu_half = build(setup, model, true, "", false, "cpu");
        std::vector<char> bytes = read_file(setup.digits + "/digits_test.bin");
        // The header is "MZD1", then count, height and width as little-endian numbers of 32 bits (tests/data/digits).
        uint32_t header[3];
        std::memcpy(header, bytes.data() + 4, sizeof header);
        size_t count = header[0];
        EXPECT(header[1] * header[2] == PIXELS && bytes.size() >= 16 + count * (PIXELS + 1));
        const auto *pixels = reinterpret_cast<const unsigned char *>(bytes.data()) + 16;
        for (size_t i = 0; i < count * PIXELS; i++)
            images.push_back(static_cast<float>(pixels[i]) / 16.0f);
        for (size_t i = 0; i < count; i++)
            labels.push_back(pixels[count * PIXELS + i]);
    }

    /* Built, and left for runs that only execute. */
    static Engine built(const Setup &setup, const std::string &model, bool half)
    {
        std::string path = setup.scratch + (half ? "/suite-half.engine" : "/suite-single.engine");
        if (!setup.quick || !std::ifstream(path)) {
            Engine engine = build(setup, model, half, PROFILE);
            MUST(mezzo_engine_save_file(engine.get(), path.c_str()));
            return engine;
        }
        return load(setup, path);
    }

    std::vector<float> some(size_t count) const { return {images.begin(), images.begin() + static_cast<long>(count * PIXELS)}; }

    Value value(const mezzo_engine_t *engine, size_t count) const
    {
        mezzo_dtype_t dtype = mezzo_io_dtype(mezzo_engine_input(engine, 0));
        return tensor(some(count), {static_cast<int64_t>(count), 1, 8, 8}, dtype);
    }

    std::vector<float> run(const mezzo_engine_t *engine, size_t count) const
    {
        auto context = MAKE(Context, mezzo_context_new, engine);
        Value input = value(engine, count);
        MUST(mezzo_context_bind(context.get(), input_name(engine), input.get()));
        MUST(mezzo_context_run(context.get(), nullptr));
        return output(context.get(), output_name(engine));
    }

    size_t right(const std::vector<float> &logits) const
    {
        size_t right = 0;
        for (size_t i = 0; i < labels.size(); i++) {
            auto row = logits.begin() + static_cast<long>(i * CLASSES);
            right += std::max_element(row, row + CLASSES) - row == labels[i];
        }
        return right;
    }
};

inline const Digits &digits(const Setup &setup)
{
    static Digits digits(setup);
    return digits;
}

/* A context of the half engine with device buffers bound: what an application has. */
struct Bound {
    Context context;
    Buffer input, output;
    size_t count;
    const mezzo_engine_t *engine;

    Bound(const Setup &setup, size_t count) : count(count), engine(digits(setup).half.get())
    {
        context = MAKE(Context, mezzo_context_new, engine);
        input = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::PIXELS * 2);
        output = MAKE(Buffer, mezzo_buffer_new_device, size_t(0), count * Digits::CLASSES * 2);
        fill(setup);
        bind();
    }

    void fill(const Setup &setup)
    {
        Value value = digits(setup).value(engine, count);
        MUST(mezzo_buffer_copy_in(input.get(), 0, mezzo_value_data(value.get()), mezzo_value_byte_size(value.get())));
    }

    void bind()
    {
        const int64_t dims[] = {static_cast<int64_t>(count), 1, 8, 8};
        MUST(mezzo_context_bind_buffer(context.get(), input_name(engine), input.get(), 0));
        MUST(mezzo_context_set_input_shape(context.get(), input_name(engine), dims, 4));
        MUST(mezzo_context_bind_buffer(context.get(), output_name(engine), output.get(), 0));
    }

    std::vector<float> result() const
    {
        std::vector<uint16_t> halves(count * Digits::CLASSES);
        std::vector<float> floats(halves.size());
        MUST(mezzo_buffer_copy_out(output.get(), 0, halves.data(), halves.size() * 2));
        MUST(mezzo_convert_f16_to_f32(halves.data(), halves.size(), floats.data()));
        return floats;
    }

    void poison(const mezzo_stream_t *stream) const
    {
        MUST(mezzo_buffer_fill_async(output.get(), 0, 0xff, count * Digits::CLASSES * 2, stream));
    }
};

inline Stream new_stream() { return MAKE(Stream, mezzo_stream_new, size_t(0), 0); }

#endif
