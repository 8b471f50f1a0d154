#!/usr/bin/env python3
"""Writes src/frontend/torch/lower/schemas.txt: the schemas of ATen's (and torchvision's) tensor operators.

The lowering takes argument names, defaults, overloads and aliasing from that table, so that it never guesses them.
Run with the pinned torch: `python tools/gen_aten_schemas.py`; `--check` compares instead of writing.
"""
import re
import sys
from pathlib import Path

import torch
import torchvision  # noqa: F401  registers torchvision::*

TORCH = "2.15"
OUT = Path(__file__).resolve().parent.parent / "src/frontend/torch/lower/schemas.txt"

# What no inference graph of the supported forms holds.
SKIP = re.compile(
    r"_out\b|\.out\b|backward|_grad|_foreach|_fused_|_cudnn|cudnn|miopen|mkldnn|_mps|_mkl|_xpu|xnnpack|_sparse|sparse_|"
    r"_nested(?!_tensor)|_copy\b(?<!_to_copy)|_scatter_reduce|_jagged|_test|quantize|_qint|fbgemm|_cslt|_dyn_quant|"
    r"_wrapped|linalg_(?!vector_norm|norm|matrix_norm|inv|det|cross)|special_(?!erf|expit|log1p|logit|softmax)|"
    r"_dim_arange|names|Dimname|dimname|_rowwise|segment_reduce|_convert_|Storage|_cufft|_to_sparse|_values|"
    r"_amp|record_stream|rename|_thnn|_pin|_slow_conv|_conv_depthwise|_use_|_has_|_is_(?!all)|is_|_coalesce|_assert_async"
)
KEEP = re.compile(r"aten::(is_floating_point|_assert_async|_to_copy|lift_fresh_copy|index_copy|view_copy|copy|alias_copy|"
                  r"expand_copy|permute_copy|_nested_tensor_from_mask|squeeze_copy|unsqueeze_copy|slice_copy|select_copy|"
                  r"transpose_copy|t_copy)\b")
FACTORY = re.compile(r"-> Tensor")


def lines():
    out = []
    for schema in torch._C._jit_get_all_schemas():
        if not schema.name.startswith(("aten::", "torchvision::")):
            continue
        text = str(schema)
        name = text.split("(", 1)[0]
        args = text.split("->")[0]
        if not ("Tensor" in args or FACTORY.search(text)):
            continue
        if not KEEP.match(name) and (SKIP.search(name) or "Dimname" in text):
            continue
        out.append(text)
    return out


def main():
    if not torch.__version__.startswith(TORCH):
        sys.exit(f"the table is made with torch {TORCH}, but this is {torch.__version__}")
    text = f"# ATen schemas of torch {TORCH}, written by tools/gen_aten_schemas.py.\n" + "\n".join(lines()) + "\n"
    if "--check" in sys.argv:
        if OUT.read_text() != text:
            sys.exit(f"{OUT} differs from what torch says: run tools/gen_aten_schemas.py")
        return
    OUT.write_text(text)
    print(f"{OUT}: {text.count(chr(10)) - 1} schemas")


if __name__ == "__main__":
    main()
