# Mezzo's two commands are `make demo` and `make test`. `make help` lists the rest.
PREFIX   ?= build/prefix
CARGO    ?= cargo
PYTHON   ?= python3
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
TARGET   := $(or $(CARGO_TARGET_DIR),target)
# Another one makes other models in `make soak`.
SEED     ?= 0
# Mutants of each of five kinds of PyTorch files in `make soak`.
FUZZ     ?= 2000000
DIGITS   := tests/data/digits
# What tools/setup.sh installed, on the paths.
WITH     := . tools/env.sh;

.PHONY: help demo test check judged-command lib install command header soak clean test-rust test-c test-python

help:
	@echo 'make demo     build, install into build/prefix, build examples_c/digits with CMake, run it'
	@echo 'make test     all tests: Rust, C and C++ against the installed package, Python judges'
	@echo 'make check    the quick inner loop: formatting, lints, unit tests'
	@echo 'make lib      the release library'
	@echo 'make command  the release mezzo command'
	@echo 'make install  the library, and the command if it is built, into PREFIX (default build/prefix)'
	@echo 'make header   include/mezzo/mezzo.h again from the sources (pinned cbindgen)'
	@echo 'make soak     the long runs, by hand; results go to docs/'
	@echo 'make clean    remove build/ and target/'

# The cdylib is built alone: with an rlib beside it there is no link-time optimisation across crates.
lib:
	$(CARGO) rustc --release --locked --lib --crate-type cdylib

command:
	$(CARGO) build --release --locked --features cli --bin mezzo

install: lib
	tools/install.sh "$(TARGET)" "$(PREFIX)"

demo:
	tools/setup.sh cmake
	$(MAKE) --no-print-directory install
	$(WITH) cmake -S examples_c/digits -B build/digits -DCMAKE_BUILD_TYPE=Release \
	    -DCMAKE_PREFIX_PATH="$(abspath $(PREFIX))" >build/digits-configure.log || { cat build/digits-configure.log; exit 1; }
	$(WITH) cmake --build build/digits >build/digits-build.log || { cat build/digits-build.log; exit 1; }
	build/digits/digits $(DIGITS)/digits.onnx $(DIGITS)/digits_test.bin
	for form in pt2 pt; do build/digits/digits $(DIGITS)/digits.$$form $(DIGITS)/digits_test.bin --brief || exit 1; done

test:
	tools/setup.sh cmake
	tools/setup.sh judges
	tools/setup.sh tensorrt
	$(MAKE) --no-print-directory test-rust
	$(MAKE) --no-print-directory judged-command
	$(MAKE) --no-print-directory -j2 install test-python
	$(MAKE) --no-print-directory test-c

# The library is linked on one core: the judges, which do not need it, use the other.
judged-command:
	$(CARGO) build --profile judged --locked --features cli --bin mezzo

test-rust:
	$(PYTHON) tools/gen_vtables.py --check
	$(CARGO) test --locked --features cli

test-c:
	$(WITH) tests/run_c_tests.sh "$(abspath $(PREFIX))"

test-python: judged-command
	$(WITH) tests/run_python_tests.sh "$(TARGET)/judged/mezzo"

# By hand: a few minutes to an hour. Results worth keeping go to docs/.
soak: command install
	$(WITH) tests/run_c_tests.sh "$(abspath $(PREFIX))" --valgrind
	$(CARGO) test --release --locked --features cli -- --ignored
	MEZZO_FUZZ_RUNS=$(FUZZ) CARGO_PROFILE_JUDGED_OVERFLOW_CHECKS=true \
	    $(CARGO) test --profile judged --locked --test torch_fuzz -- --nocapture
	$(CARGO) build --release --locked --example onnx_roundtrip
	$(WITH) $(PYTHON) tests/python/onnx_roundtrip.py "$(TARGET)/release/examples/onnx_roundtrip"
	$(CARGO) build --locked --features cli --example soak_models
	$(WITH) $(PYTHON) tests/python/make_models.py build/fixtures
	$(WITH) $(PYTHON) tests/python/soak_models.py "$(TARGET)/debug/examples/soak_models" --fixtures build/fixtures \
	    --count 10000 --seed "$(SEED)" --mezzo "$(TARGET)/release/mezzo"

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --features cli --all-targets -- -D warnings
	$(CARGO) test --locked --lib

header:
	tools/header.sh

clean:
	rm -rf build target
