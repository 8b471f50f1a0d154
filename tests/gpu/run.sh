#!/bin/sh
# Everything that needs a GPU: tests, sanitizers, agreement with the CPU backend, benchmarks (docs/gpu.md).
#
#   tests/gpu/run.sh LIBRARIES BINARIES [RESULTS] [PART ...]
#
# LIBRARIES  a folder with TensorRT 8.5 or newer and its ONNX parser (tools/fetch_tensorrt.sh 8.5 fetches one)
# BINARIES   what tests/gpu/build.sh made: it needs Rust and a C++ compiler, this script needs neither
# RESULTS    a folder for tables and logs
# PART       suite, sanitize, agree, bench, torch; all of them if none is given
#
# "sanitize" wants the engines of "suite", so run that before. With cuBLAS 11 in LIBRARIES its tactics are used too: transformers need
# them on TensorRT 8.5.
#
# Needs python3 with numpy and onnx; "agree" also onnxruntime for published models, "bench" and "torch" also torch and torchvision.
set -u
libraries=$(cd "$1" && pwd)
binaries=$(cd "$2" && pwd)
results=${3:-build/gpu/results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
[ $# -gt 3 ] && shift 3 && parts=" $* " || parts=" suite sanitize agree bench torch "
cd "$(dirname "$0")/../.."
work=${MEZZO_GPU_WORK:-$(mktemp -d)}
mkdir -p "$work"
failed=0

if ! nvidia-smi >/dev/null 2>&1; then
    echo "SKIPPED: nvidia-smi finds no GPU"
    exit 0
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$results/device.txt"
# Stand-ins for CUDA libraries that TensorRT 8's parser loads and never calls, unless the machine has them.
standins=$work/standins
mkdir -p "$standins"
if [ -f "$libraries/libnvinfer_plugin.so.8" ] && ! ldconfig -p | grep -q libcudnn.so.8; then
    python3 tools/tensorrt_standins.py "$libraries" "$standins"
fi
export LD_LIBRARY_PATH="$binaries:$libraries:$standins:${LD_LIBRARY_PATH:-}"
if [ -f "$libraries/libcublasLt.so.11" ]; then
    MEZZO_TACTIC_SOURCES=cublas,cublas_lt,edge_mask_convolutions,jit_convolutions
else
    MEZZO_TACTIC_SOURCES=edge_mask_convolutions,jit_convolutions
fi
export MEZZO_TACTIC_SOURCES
suite="$binaries/suite --library $libraries --models $work --digits tests/data/digits --scratch $work"

part() {
    case "$parts" in *" $1 "*) echo "== $1" ;; *) return 1 ;; esac
}

if part suite || part sanitize; then
    python3 tests/gpu/models.py "$work" || failed=1
fi
if part suite; then
    $suite 2>&1 | tee "$results/suite.txt"
    grep -q '^0 failed' "$results/suite.txt" || failed=1
fi
if part sanitize; then
    for tool in memcheck initcheck; do
        compute-sanitizer --tool $tool --report-api-errors no --error-exitcode 9 --log-file "$results/$tool.txt" $suite --quick \
            >"$results/$tool-suite.txt" 2>&1 || failed=1
        echo "$tool: $(grep 'ERROR SUMMARY' "$results/$tool.txt"); suite: $(tail -1 "$results/$tool-suite.txt")"
    done
fi
models() {
    for name in "$@"; do
        [ -f "$work/$name.onnx" ] || python3 benches/gpu/models.py "$work" "$name" 2>&1 | tail -n 3
    done
}
if part agree; then
    models resnet50 vit_b_16 bert_base
    python3 tests/gpu/agree.py --mezzo "$binaries/mezzo" --library "$libraries" --scratch "$work" \
        tests/data/digits/digits.onnx "$work/resnet50.onnx" "$work/vit_b_16.onnx" "$work/bert_base.onnx" \
        $(ls build/gpu/models/*.onnx 2>/dev/null) 2>&1 | tee "$results/agree.txt"
    grep -q '"ok": false' "$results/agree.txt" && failed=1
fi
if part bench; then
    models resnet50 vit_b_16 bert_base
    : >"$results/bench.txt"
    for name in resnet50 vit_b_16 bert_base; do
        for precision in fp32 fp16; do
            engine=$work/$name-$precision-bench.engine
            case $name in
            bert_base) p="input_ids=1x128:32x128:32x128;attention_mask=1x128:32x128:32x128" ;;
            *) p="x=1x3x224x224:32x3x224x224:32x3x224x224" ;;
            esac
            [ -f "$engine" ] || "$binaries/mezzo" build "$work/$name.onnx" "$engine" --backend tensorrt --library "$libraries" \
                --tactic-sources $MEZZO_TACTIC_SOURCES --profile "$p" --json \
                $([ $precision = fp16 ] && echo --precision fp16) >"$results/$name-$precision.json" || { failed=1; continue; }
            for batch in 1 8 32; do
                case $name in
                bert_base) s="--shape input_ids=${batch}x128 --shape attention_mask=${batch}x128" ;;
                *) s="--shape x=${batch}x3x224x224" ;;
                esac
                threads=0
                [ "$batch" = 1 ] && [ $precision = fp16 ] && threads=8
                "$binaries/bench" --library "$libraries" --engine "$engine" $s --threads $threads | tee -a "$results/bench.txt"
            done
        done
    done
fi
if part torch; then
    python3 benches/gpu/torch_peer.py 2>&1 | tee "$results/torch.txt"
fi
exit $failed
