// The tests that stand in files of their own. Each returns what it did, or throws.
#ifndef MEZZO_GPU_TESTS_HPP
#define MEZZO_GPU_TESTS_HPP

#include "check.hpp"

// shapes.cpp
std::string test_data_decides(const Setup &);
std::string test_mixed(const Setup &);
std::string test_branches(const Setup &);
std::string test_shape_input(const Setup &);
std::string test_profiles(const Setup &);
std::string test_half_required(const Setup &);
// devices.cpp
std::string test_two_devices(const Setup &);
std::string test_two_devices_at_once(const Setup &);
// sharing.cpp
std::string test_dlpack(const Setup &);
std::string test_shared_memory(const Setup &);
std::string test_pool(const Setup &);
// files.cpp
std::string test_files(const Setup &);
std::string test_other_device(const Setup &);
std::string test_memory_full(const Setup &);

#endif
