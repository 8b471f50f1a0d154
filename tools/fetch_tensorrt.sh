#!/bin/sh
# Fetches NVIDIA's libraries for the tests, out of wheels that NVIDIA publishes on PyPI (Linux, x86_64). Each goes to a
# folder under build/ where the tests look for it. It is NVIDIA's software under NVIDIA's licences, and nothing of it becomes
# part of Mezzo.
#
#   tools/fetch_tensorrt.sh rtx    TensorRT-RTX 1.7.1 with its ONNX parser: builds without a GPU; 146 MB to download, 238 MB
#   tools/fetch_tensorrt.sh lean   the lean runtime of TensorRT 11.4: executes only; 44 MB, 105 MB
#   tools/fetch_tensorrt.sh 8.5    TensorRT 8.5.3 with its ONNX parser: needs a driver; 550 MB, 915 MB
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
say() { printf 'fetch_tensorrt: %s\n' "$*" >&2; }

# fetch FOLDER PYTHON_VERSION PLATFORM REQUIREMENT SHA256 FILE_PREFIX...
fetch() {
    target=build/$1
    [ -f "$target/.complete" ] && return 0
    say "downloading $4 into $target"
    # The target appears only when all is there: the tests take an existing folder at its word.
    mkdir -p build
    scratch=$(mktemp -d build/.download.XXXXXX)
    trap 'rm -rf "$scratch"' EXIT
    printf '%s --hash=sha256:%s\n' "$4" "$5" >"$scratch/wheel.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir \
        --python-version "$2" --platform "$3" --require-hashes -r "$scratch/wheel.txt" -d "$scratch"
    shift 5
    "$python" - "$scratch" "$target" "$@" <<'EOF'
import pathlib, shutil, sys, zipfile
scratch, target = map(pathlib.Path, sys.argv[1:3])
(scratch / "files").mkdir()
with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        base = name.rsplit("/", 1)[-1]
        if base.startswith(tuple(sys.argv[3:])):
            with wheel.open(name) as source, open(scratch / "files" / base, "wb") as out:
                shutil.copyfileobj(source, out)
(scratch / "files" / ".complete").touch()
shutil.rmtree(target, ignore_errors=True)
(scratch / "files").rename(target)
EOF
    rm -rf "$scratch"
    say "$target has $(ls "$target" | tr '\n' ' ')"
}

if [ "$(uname -s) $(uname -m)" != "Linux x86_64" ]; then
    say "these wheels are for Linux on x86_64 only, this is $(uname -s) on $(uname -m)"
    exit 1
fi
case "${1:-}" in
rtx) fetch tensorrt 3.12 manylinux_2_28_x86_64 'onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0' \
    32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298 \
    libtensorrt_rtx.so. libtensorrt_onnxparser_rtx.so. README.txt ;;
lean) fetch tensorrt-lean 3.12 manylinux_2_28_x86_64 'tensorrt-lean-cu13-libs==11.4.0.106' \
    e022b8d0e21f19258657aec6760e1de8b454ed176f76217e3f7ec2036c5a9410 libnvinfer_lean.so. ;;
8.5) fetch tensorrt-8.5 3.10 manylinux_2_17_x86_64 'tensorrt==8.5.3.1' \
    00375391073e51c1d662cc116f5472a921f27d75bb617c0195b3479633c625f3 \
    libnvinfer.so. libnvinfer_builder_resource.so. libnvinfer_plugin.so. libnvonnxparser.so. ;;
*)
    say "usage: tools/fetch_tensorrt.sh rtx|lean|8.5"
    exit 2
    ;;
esac
