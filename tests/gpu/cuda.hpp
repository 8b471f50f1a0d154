// The few functions of the CUDA driver that a caller with CUDA code of its own would use, found at run time.
#ifndef MEZZO_GPU_CUDA_HPP
#define MEZZO_GPU_CUDA_HPP

#include "check.hpp"

#include <dlfcn.h>

struct Cuda {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);

    template <class... A> void call(const char *symbol, A... arguments) const
    {
        using Function = int (*)(A...);
        auto function = reinterpret_cast<Function>(library ? dlsym(library, symbol) : nullptr);
        if (!function)
            throw Failure(std::string("the CUDA driver has no ") + symbol);
        if (int code = function(arguments...))
            throw Failure(std::string(symbol) + " failed with " + std::to_string(code));
    }
};

#endif
