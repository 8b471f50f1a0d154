// How long an engine file takes to load, beside a bare program that reads the plan and hands it to TensorRT, step by step.
//
//     load --library FOLDER --engine FILE [--rounds N]
//
// Prints a line of JSON with medians in milliseconds: of Mezzo, the file read and checked, then the plan made an engine with its first
// context; of the bare program, the file read, the engine, the context.
#include "sides.hpp"

int main(int argc, char **argv)
{
    try {
        const Arguments arguments(argc, argv);
        Driver driver;
        void *primary = nullptr;
        {
            Engine warm = arguments.load();
            MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(warm.get()));
        }
        driver.retain(&primary, 0);
        driver.push(primary);
        std::vector<double> file, open, all, bare_file, bare_engine, bare_context, bare_all;
        for (int round = 0; round < arguments.rounds; round++) {
            mezzo_device_collect();
            auto begin = Clock::now();
            {
                Engine engine = arguments.load();
                file.push_back(micros(begin) / 1e3);
                auto middle = Clock::now();
                auto context = MAKE(Context, mezzo_context_new, static_cast<const mezzo_engine_t *>(engine.get()));
                open.push_back(micros(middle) / 1e3);
                all.push_back(micros(begin) / 1e3);
            }
            mezzo_device_collect();
            begin = Clock::now();
            std::vector<char> bytes = plan_of(arguments.engine);
            bare_file.push_back(micros(begin) / 1e3);
            auto middle = Clock::now();
            bare::Engine engine(arguments.nvinfer(), bytes);
            bare_engine.push_back(micros(middle) / 1e3);
            middle = Clock::now();
            void *context = bare::call<void *>(engine.engine, 11);
            bare_context.push_back(micros(middle) / 1e3);
            bare_all.push_back(micros(begin) / 1e3);
            bare::destroy(context);
        }
        std::printf("{\"engine\": \"%s\", \"mezzo_ms\": %.1f, \"mezzo_file_ms\": %.1f, \"mezzo_open_ms\": %.1f, \"bare_ms\": %.1f, "
                    "\"bare_file_ms\": %.1f, \"bare_engine_ms\": %.1f, \"bare_context_ms\": %.1f, \"rounds\": %d}\n",
                    arguments.engine.c_str(), median(all), median(file), median(open), median(bare_all), median(bare_file),
                    median(bare_engine), median(bare_context), arguments.rounds);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "load: %s\n", e.what());
        return 1;
    }
}
