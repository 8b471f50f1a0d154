#!/bin/sh
# Everything that needs a GPU: tests, sanitizers, agreement with the CPU backend, benchmarks (docs/gpu.md).
#
#   tests/gpu/run.sh LIBRARIES BINARIES [RESULTS] [PART ...]
#
# LIBRARIES  a folder with TensorRT 8.5 or newer and its ONNX parser (tools/fetch_tensorrt.sh 8.5 fetches one)
# BINARIES   what tests/gpu/build.sh made: it needs Rust and a C++ compiler, this script needs neither
# RESULTS    a folder for tables and logs
# PART       all of these, in this order, if none is given:
#              models    exports networks with random weights, and PyTorch archives of some
#              torch     PyTorch on the same networks
#              suite     devices, memory, streams, executions, lifetimes, errors; DLPack with PyTorch
#              probe     what TensorRT 8.5 or 8.6 asks and tells of an output that the data decides, without Mezzo
#              options   what a build can be told, each taken or refused, and what comes of it
#              engines   builds what is compared and measured (slow; MEZZO_GPU_JOBS at once, 3 if not set)
#              sanitize  the suite under compute-sanitizer, with the engines that "suite" has left
#              agree     the engines beside the CPU backend
#              archives  PyTorch archives built in FP16, beside what torch gave
#              bench     the engines beside a bare TensorRT program: nothing else should run
#              turns     the same with several contexts of each side in turns: cost told apart from chance
#
# Each part can be run alone, and again: MEZZO_GPU_WORK names the folder where models and engines stay (a temporary one if it is
# not set), and what is there is not made again. Published models are taken from build/published (MEZZO_PUBLISHED names another
# folder). With cuBLAS 11 in LIBRARIES its tactics are used too: transformers need them on TensorRT 8.5.
#
# Names between commas, without spaces; one that is not known is refused:
#   MEZZO_ENGINES=digits32,vit_b_16  what "engines" and "agree" deal with (all of tests/gpu/engines.py if it is not set)
#   MEZZO_PRECISIONS=fp16,fp32       in what "engines" builds it (in both if it is not set)
#   MEZZO_TURNS=bert_base,vit_b_16   what "turns" measures (these if it is not set; resnet50 is known too)
# More:
#   MEZZO_SANITIZERS="memcheck initcheck"  the tools for "sanitize", between spaces (these if it is not set)
#   MEZZO_SANITIZE_LIMIT=900         seconds for the suite under each of them
#   MEZZO_MEASURE_LIMIT=240          seconds for each program that "bench" and "turns" start
#
# Needs python3 with numpy and onnx; "models" and "torch" torch and torchvision.
set -u
libraries=$(cd "$1" && pwd)
binaries=$(cd "$2" && pwd)
results=${3:-build/gpu/results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
[ $# -gt 3 ] && shift 3 && parts=" $* " || parts=" models torch suite probe options engines sanitize agree archives bench turns "
cd "$(dirname "$0")/../.."
# The inputs of what is measured.
shapes_of() {
    case $1 in
    bert_base) echo "--shape input_ids=Nx128 --shape attention_mask=Nx128" ;;
    resnet50 | vit_b_16) echo "--shape x=Nx3x224x224" ;;
    *) return 1 ;;
    esac
}
turns=
rest=${MEZZO_TURNS:-bert_base,vit_b_16},
while [ -n "$rest" ]; do
    name=${rest%%,*} rest=${rest#*,}
    shapes_of "$name" >/dev/null || { echo "MEZZO_TURNS: not known: '$name'; known: bert_base, resnet50, vit_b_16" >&2; exit 2; }
    turns="$turns $name"
done
work=${MEZZO_GPU_WORK:-$(mktemp -d)}
published=${MEZZO_PUBLISHED:-build/published}
jobs=${MEZZO_GPU_JOBS:-3}
engines=$work/engines
failed=0
mkdir -p "$work" "$engines"

if ! nvidia-smi >/dev/null 2>&1; then
    echo "SKIPPED: nvidia-smi finds no GPU"
    exit 0
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$results/device.txt"
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

small_models() {
    [ -f "$work/digits32.onnx" ] || python3 tests/gpu/models.py "$work" || failed=1
}
part() {
    case "$parts" in *" $1 "*) echo "== $1 $(date +%H:%M:%S)" ;; *) return 1 ;; esac
}

if part models; then
    python3 tests/gpu/models.py "$work" || failed=1
    for name in resnet50 vit_b_16 bert_base mobilenet_v3_large; do
        [ -f "$work/$name.onnx" ] || python3 benches/gpu/models.py "$work" $name 2>&1 | tail -n 3 &
    done
    [ -d "$work/archives" ] || python3 tests/torch/make_zoo.py "$work/archives" --forms pt2,traced \
        --only resnet18,mobilenet_v3_small,vit_b_16,transformer_encoder >"$results/archives-made.txt" 2>&1 || failed=1
    wait
fi
if part torch; then
    python3 benches/gpu/torch_peer.py >"$results/torch.txt" 2>"$results/torch-log.txt" || failed=1
    cat "$results/torch.txt"
fi
if part suite; then
    small_models
    $suite 2>&1 | tee "$results/suite.txt"
    grep -q '^0 failed' "$results/suite.txt" || failed=1
    if python3 -c 'import torch' 2>/dev/null; then
        python3 tests/gpu/dlpack_torch.py "$binaries/libmezzo.so.0" "$work/suite-half.engine" "$libraries" 2>&1 | tee "$results/dlpack.txt"
        grep -q '^ok' "$results/dlpack.txt" || failed=1
    fi
fi
if part probe; then
    # With the engine that "suite" has left.
    timeout 120 "$binaries/allocator" --library "$libraries" --engine "$work/select.engine" >"$results/allocator.txt" 2>&1 || failed=1
    # Ways to give memory after which the right values were nowhere, in how many executions of how many.
    awk '/^(an? |the |no |another)/ { way = $0; order[++ways] = way } /^  / { all[way]++ } /NONE/ { none[way]++ }
        END { for (i = 1; i <= ways; i++) if (none[order[i]]) { wrong++; print none[order[i]] " of " all[order[i]] " wrong: " order[i] }
              print ways " ways tried, " wrong + 0 " of them wrong" }' "$results/allocator.txt"
fi
if part options; then
    small_models
    python3 tests/gpu/options.py "$work/options" --mezzo "$binaries/mezzo" --library "$libraries" --models "$work" 2>&1 |
        tee "$results/options.txt"
    grep -q '^0 failed' "$results/options.txt" || failed=1
fi
if part engines; then
    python3 tests/gpu/engines.py "$engines" --mezzo "$binaries/mezzo" --library "$libraries" --models "$work" --published "$published" \
        --jobs "$jobs" ${MEZZO_ENGINES:+--only "$MEZZO_ENGINES"} ${MEZZO_PRECISIONS:+--precisions "$MEZZO_PRECISIONS"} \
        >"$results/engines.txt" || failed=1
    cat "$results/engines.txt"
fi
if part sanitize; then
    # Kernels are loaded when they are used: there are thousands, and the sanitizer patches each.
    for tool in ${MEZZO_SANITIZERS:-memcheck initcheck}; do
        mkdir -p "$work/$tool"
        cp "$work"/*.engine "$work/$tool"
        CUDA_MODULE_LOADING=LAZY timeout "${MEZZO_SANITIZE_LIMIT:-900}" compute-sanitizer --tool $tool --report-api-errors no \
            --error-exitcode 9 --print-limit 1000 --log-file "$results/$tool.txt" $suite --quick --scratch "$work/$tool" \
            >"$results/$tool-suite.txt" 2>&1 || failed=1
        echo "$tool: $(grep 'ERROR SUMMARY' "$results/$tool.txt"); suite: $(tail -n 1 "$results/$tool-suite.txt")"
        # Which kernels are accused, and how often.
        grep -oE '=========     at .*' "$results/$tool.txt" | sed -E 's/\+0x.*//; s/ in .*//' | sort | uniq -c | sort -rn | head -n 20
    done
fi
if part agree; then
    python3 tests/gpu/agree.py "$engines" --mezzo "$binaries/mezzo" --library "$libraries" --models "$work" --published "$published" \
        ${MEZZO_ENGINES:+--only "$MEZZO_ENGINES"} >"$results/agree.txt" 2>&1 || failed=1
    cat "$results/agree.txt"
fi
if part archives; then
    python3 tests/gpu/agree_torch.py "$work/archives" --mezzo "$binaries/mezzo" --library "$libraries" --jobs "$jobs" 2>&1 |
        tee "$results/archives.txt"
    grep -q '"ok": false' "$results/archives.txt" && failed=1
fi
# measure FILE PROGRAM ...: what the program says, in that file of the results too.
measure() {
    file=$1 program=$2
    shift 2
    timeout "${MEZZO_MEASURE_LIMIT:-240}" "$binaries/$program" --library "$libraries" "$@" | tee -a "$results/$file.txt"
}
if part bench; then
    : >"$results/bench.txt"
    digits="$work/suite-half.engine"
    [ -f "$digits" ] && measure bench host --engine "$digits" --shape image=Nx1x8x8 --iterations 20000
    for precision in fp16 fp32; do
        for name in resnet50 bert_base vit_b_16; do
            engine=$engines/$name-$precision.engine
            [ -f "$engine" ] || { echo "no engine $name-$precision"; failed=1; continue; }
            threads=0
            [ $name-$precision = resnet50-fp16 ] && threads=8
            measure bench load --engine "$engine" --rounds 3
            # shellcheck disable=SC2046
            measure bench bench --engine "$engine" $(shapes_of $name) --batches 1,8,32 --threads $threads
        done
    done
    engine=$engines/resnet50-fp16.engine
    [ -f "$engine" ] && measure bench host --engine "$engine" --shape x=Nx3x224x224 --iterations 2000
fi
if part turns; then
    : >"$results/turns.txt"
    for name in $turns; do
        engine=$engines/$name-fp16.engine
        [ -f "$engine" ] || { echo "no engine $name-fp16"; failed=1; continue; }
        # shellcheck disable=SC2046
        measure turns turns --engine "$engine" $(shapes_of $name) --batches 1,8,32 --rounds 15 --threads 4
    done
fi
echo "== end $(date +%H:%M:%S)"
exit $failed
