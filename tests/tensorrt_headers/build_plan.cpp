// Builds a plan with NVIDIA's own C++ headers, as Mezzo does it through virtual tables, to be compared with Mezzo's.
//
//     build_plan LIBRARY PARSER MODEL PLAN INPUT=MIN:OPT:MAX...
//
// The libraries are loaded at run time, so that nothing of them is needed to link. A shape is written 1x3x224x224.
#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(std::string const& what) {
    std::fprintf(stderr, "build_plan: %s\n", what.c_str());
    std::exit(1);
}

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, char const* text) noexcept override {
        if (severity <= Severity::kERROR) {
            std::fprintf(stderr, "TensorRT: %s\n", text);
        }
    }
};

template <class Function>
Function symbol(void* library, char const* name) {
    void* found = dlsym(library, name);
    return found ? reinterpret_cast<Function>(found) : (fail(dlerror()), nullptr);
}

void* open(char const* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    return library ? library : (fail(dlerror()), nullptr);
}

nvinfer1::Dims shape(std::string const& text) {
    nvinfer1::Dims dims{};
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, 'x');) {
        dims.d[dims.nbDims++] = std::stoll(part);
    }
    return dims;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) {
        fail("give LIBRARY PARSER MODEL PLAN [INPUT=MIN:OPT:MAX...]");
    }
    void* library = open(argv[1]);
    void* parsers = open(argv[2]);
    auto const version = symbol<int32_t (*)()>(library, "getInferLibVersion")();
    auto const parser_version = symbol<int32_t (*)()>(parsers, "getNvOnnxParserVersion")();
    auto const create_builder = symbol<void* (*)(void*, int32_t)>(library, "createInferBuilder_INTERNAL");
    auto const create_parser = symbol<void* (*)(void*, void*, int)>(parsers, "createNvOnnxParser_INTERNAL");

    Logger logger;
    std::unique_ptr<nvinfer1::IBuilder> builder(
        static_cast<nvinfer1::IBuilder*>(create_builder(&logger, version)));
    if (!builder) {
        fail("no builder");
    }
    auto const strongly = 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
    std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
    std::unique_ptr<nvinfer1::INetworkDefinition> network(builder->createNetworkV2(strongly));
    std::unique_ptr<nvonnxparser::IParser> parser(
        static_cast<nvonnxparser::IParser*>(create_parser(network.get(), &logger, parser_version)));
    std::ifstream in(argv[3], std::ios::binary);
    std::vector<char> const model((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (!parser || !parser->parse(model.data(), model.size())) {
        fail("the model does not parse");
    }
    config->setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
    if (argc > 5) {
        nvinfer1::IOptimizationProfile* profile = builder->createOptimizationProfile();
        for (int i = 5; i < argc; ++i) {
            std::string const text = argv[i];
            auto const name = text.substr(0, text.rfind('='));
            std::istringstream ranges(text.substr(name.size() + 1));
            for (auto which : {nvinfer1::OptProfileSelector::kMIN, nvinfer1::OptProfileSelector::kOPT,
                               nvinfer1::OptProfileSelector::kMAX}) {
                std::string one;
                std::getline(ranges, one, ':');
                if (!profile->setDimensions(name.c_str(), which, shape(one))) {
                    fail("a shape is refused: " + text);
                }
            }
        }
        if (config->addOptimizationProfile(profile) < 0) {
            fail("the profile is refused");
        }
    }
    std::unique_ptr<nvinfer1::IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
    if (!plan) {
        fail("no plan");
    }
    std::ofstream(argv[4], std::ios::binary)
        .write(static_cast<char const*>(plan->data()), static_cast<std::streamsize>(plan->size()));
    std::printf("%d %zu\n", version, plan->size());
    // The libraries' own threads may still run: no destructors.
    std::fflush(stdout);
    std::_Exit(0);
}
