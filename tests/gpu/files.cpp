// Engine files: loaded and run, damaged, and of another device. And a device whose memory is full.
#include "digits.hpp"
#include "tests.hpp"

#include <chrono>

using Clock = std::chrono::steady_clock;

namespace {

uint32_t crc(const char *bytes, size_t count)
{
    uint32_t value = ~0u;
    for (size_t i = 0; i < count; i++) {
        value ^= static_cast<unsigned char>(bytes[i]);
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0u);
    }
    return ~value;
}

/* The file's section of that name: where its entry in the table is. */
char *entry_of(std::vector<char> &file, const char *name)
{
    uint32_t sections = 0;
    std::memcpy(&sections, file.data() + 12, 4);
    for (uint32_t i = 0; i < sections; i++)
        if (std::strncmp(file.data() + 32 + 48 * i, name, 16) == 0)
            return file.data() + 32 + 48 * i;
    throw Failure(std::string("the engine file has no section ") + name);
}

/* Another compute capability in the file, with right checksums. */
void pretend_other_device(std::vector<char> &file)
{
    char *entry = entry_of(file, "network");
    uint64_t offset = 0, length = 0;
    std::memcpy(&offset, entry + 16, 8);
    std::memcpy(&length, entry + 24, 8);
    const std::string key = "\"compute_capability\":\"";
    auto begin = file.begin() + static_cast<long>(offset), end = begin + static_cast<long>(length);
    auto found = std::search(begin, end, key.begin(), key.end());
    EXPECT(found != end);
    char &major = *(found + static_cast<long>(key.size()));
    major = major == '7' ? '8' : '7';
    uint32_t sums[] = {crc(file.data() + offset, length), 0, 0}, sections = 0;
    std::memcpy(entry + 32, &sums[0], 4);
    std::memcpy(&sections, file.data() + 12, 4);
    sums[1] = crc(file.data() + 32, 48 * sections);
    std::memcpy(file.data() + 24, &sums[1], 4);
    sums[2] = crc(file.data(), 28);
    std::memcpy(file.data() + 28, &sums[2], 4);
}

} // namespace

std::string test_files(const Setup &setup)
{
    const Digits &d = digits(setup);
    std::string path = setup.scratch + "/digits.engine";
    MUST(mezzo_engine_save_file(d.half.get(), path.c_str()));
    EngineOptions options(mezzo_engine_options_new());
    MUST(mezzo_engine_options_set(options.get(), "tensorrt.library", setup.library.c_str()));
    auto load = [&](const std::string &file, mezzo_engine_t **engine) {
        return mezzo_engine_load_file(nullptr, file.c_str(), options.get(), engine);
    };
    auto begin = Clock::now();
    mezzo_engine_t *raw = nullptr;
    MUST(load(path, &raw));
    Engine loaded(raw);
    EXPECT(d.run(loaded.get(), 32) == d.run(d.half.get(), 32));
    double ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    std::vector<char> bytes = read_file(path);
    raw = nullptr;
    for (size_t place : {bytes.size() / 3, bytes.size() / 2, bytes.size() - 5000}) {
        std::vector<char> flipped = bytes;
        flipped[place] ^= 0x10;
        write_file(setup.scratch + "/flipped.engine", flipped);
        std::string message = message_of(load(setup.scratch + "/flipped.engine", &raw));
        EXPECT(!message.empty() && raw == nullptr);
    }
    for (size_t length : {size_t(0), size_t(7), size_t(5000), bytes.size() / 2, bytes.size() - 1}) {
        write_file(setup.scratch + "/cut.engine", {bytes.begin(), bytes.begin() + static_cast<long>(length)});
        std::string message = message_of(load(setup.scratch + "/cut.engine", &raw));
        EXPECT(!message.empty() && raw == nullptr);
    }
    EXPECT(d.run(loaded.get(), 32) == d.run(d.half.get(), 32));
    return "loaded and run in " + std::to_string(ms) + " ms; flipped and truncated files refused";
}

std::string test_other_device(const Setup &setup)
{
    const Digits &d = digits(setup);
    std::string path = setup.scratch + "/other.engine";
    MUST(mezzo_engine_save_file(d.half.get(), path.c_str()));
    std::vector<char> bytes = read_file(path);
    pretend_other_device(bytes);
    write_file(path, bytes);
    // It can be described here, and says where it runs.
    Engine other = load(setup, path);
    mezzo_context_t *none = nullptr;
    REFUSED(mezzo_context_new(other.get(), &none), MEZZO_ERROR_VERSION, "was built for compute capability");
    EXPECT(none == nullptr);
    EXPECT(d.run(d.half.get(), 32).size() == 320);
    return "an engine of another compute capability: described, refused with both named";
}

std::string test_memory_full(const Setup &setup)
{
    if (setup.quick)
        return "takes all memory: not in a quick run";
    const Digits &d = digits(setup);
    std::vector<float> want = d.run(d.half.get(), 450);
    Engine waiting = load(setup, setup.scratch + "/suite-single.engine");
    std::vector<Buffer> taken;
    for (size_t size = size_t(1) << 32; size >= 4096; size /= 2)
        for (;;) {
            mezzo_buffer_t *raw = nullptr;
            mezzo_error_t *error = mezzo_buffer_new_device(0, size, &raw);
            if (error) {
                REFUSED(error, MEZZO_ERROR_OUT_OF_MEMORY, "allocate");
                break;
            }
            taken.emplace_back(raw);
        }
    std::string refused;
    std::vector<Context> contexts;
    for (int i = 0; i < 64 && refused.empty(); i++) {
        mezzo_context_t *context = nullptr;
        refused = message_of(mezzo_context_new(i % 2 ? d.half.get() : waiting.get(), &context));
        EXPECT(refused.empty() == (context != nullptr));
        contexts.emplace_back(context);
    }
    if (refused.empty())
        throw Failure("64 contexts were opened on a device without free memory");
    contexts.clear();
    taken.clear();
    mezzo_device_collect();
    EXPECT(d.run(d.half.get(), 450) == want);
    EXPECT(d.run(waiting.get(), 32).size() == 320);
    return "a context without memory refused (" + refused.substr(0, 100) + "...); with memory again all works";
}
