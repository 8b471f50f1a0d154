// TensorRT 8.5 and 8.6 called as a hand-written program calls it: what Mezzo is measured against. The calls go straight to the
// virtual tables, as the compiler would emit them from NVIDIA's headers, and nothing is checked or kept.
#ifndef MEZZO_BENCH_BARE_HPP
#define MEZZO_BENCH_BARE_HPP

#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <stdexcept>
#include <string>
#include <vector>

namespace bare {

struct Dims {
    int32_t rank;
    int32_t sizes[8];
};

/* What methods are called on: the implementation behind a public object. */
inline void *behind(void *object) { return static_cast<void **>(object)[1]; }

template <class R, class... A> R call(void *object, int slot, A... arguments)
{
    void *implementation = behind(object);
    auto table = *static_cast<void ***>(implementation);
    return reinterpret_cast<R (*)(void *, A...)>(table[slot])(implementation, arguments...);
}

/* The deleting destructor stands in the public object's own table. */
inline void destroy(void *object)
{
    reinterpret_cast<void (*)(void *)>((*static_cast<void ***>(object))[1])(object);
}

struct Logger {
    virtual void log(int severity, const char *message) noexcept
    {
        if (severity <= 1)
            std::fprintf(stderr, "bare: %s\n", message);
    }
    virtual ~Logger() = default;
};

struct Tensor {
    std::string name;
    bool is_input;
};

/* An engine from a plan. */
struct Engine {
    Logger logger;
    void *runtime = nullptr, *engine = nullptr;
    std::vector<Tensor> tensors;

    Engine(const std::string &library, const std::vector<char> &plan)
    {
        void *handle = dlopen(library.c_str(), RTLD_NOW);
        if (!handle)
            throw std::runtime_error(dlerror());
        auto version = reinterpret_cast<int (*)()>(dlsym(handle, "getInferLibVersion"))();
        if (version / 1000 != 8 || version % 1000 < 500)
            throw std::runtime_error("the bare program knows TensorRT 8.5 and 8.6 only");
        auto create = reinterpret_cast<void *(*)(void *, int)>(dlsym(handle, "createInferRuntime_INTERNAL"));
        runtime = create(&logger, version);
        engine = call<void *>(runtime, 2, static_cast<const void *>(plan.data()), plan.size(), static_cast<void *>(nullptr));
        if (!engine)
            throw std::runtime_error("the plan was not loaded");
        int count = call<int>(engine, 45);
        for (int i = 0; i < count; i++) {
            const char *name = call<const char *>(engine, 46, i);
            tensors.push_back({name, call<int>(engine, 38, name) == 1});
        }
    }
    Engine(const Engine &) = delete;
    ~Engine()
    {
        destroy(engine);
        destroy(runtime);
    }
};

/* TensorRT 8 lets one context at a time use an optimization profile, so each context has an engine of its own. */
struct Context {
    Engine engine;
    void *context;

    Context(const std::string &library, const std::vector<char> &plan)
        : engine(library, plan), context(call<void *>(engine.engine, 11))
    {
    }
    Context(const Context &) = delete;
    ~Context() { destroy(context); }

    void shape(const char *name, const std::vector<int64_t> &dims)
    {
        Dims d{static_cast<int32_t>(dims.size()), {}};
        for (size_t i = 0; i < dims.size(); i++)
            d.sizes[i] = static_cast<int32_t>(dims[i]);
        call<bool>(context, 29, name, static_cast<const Dims *>(&d));
    }
    void address(const char *name, void *memory) { call<bool>(context, 32, name, memory); }
    bool enqueue(void *stream) { return call<bool>(context, 44, stream); }
};

} // namespace bare

#endif
