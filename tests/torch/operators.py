#!/usr/bin/env python3
"""Makes one small `.pt2` archive for each operator variant: types, shapes and arguments, with torch's own outputs.

    operators.py FOLDER [--only WORD]

Each CASE is a function of tensors; the archive holds it as torch.export exports it, and FOLDER/NAME.npz has the inputs
and outputs, as make_zoo.py writes them (and judge.py reads them).
"""
import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore")
CASES = []


def case(name, f, *inputs):
    CASES.append((name, f, inputs))


def r(*shape):
    return torch.randn(*shape)


def ints(*shape, low=-9, high=9, dtype=torch.int64):
    return torch.randint(low, high, shape, dtype=dtype)


def build():
    torch.manual_seed(3)
    positive = lambda *s: torch.rand(*s) + 0.5
    for f in "relu sigmoid tanh gelu silu hardswish hardsigmoid mish elu selu celu softplus softsign logsigmoid relu6 leaky_relu hardtanh tanhshrink hardshrink softshrink".split():
        case(f"f_{f}", lambda x, f=f: getattr(F, f)(x), 2 * r(3, 5))
    for f in "exp erf sin cos tan atan sinh cosh asinh neg abs sign floor ceil round trunc frac square expm1 exp2 erfc isnan isfinite".split():
        case(f"u_{f}", lambda x, f=f: getattr(torch, f)(x), 2 * r(3, 5))
    for f in "log log2 log10 log1p sqrt rsqrt reciprocal".split():
        case(f"u_{f}", lambda x, f=f: getattr(torch, f)(x), positive(3, 5))
    for f in "exp sqrt sigmoid log".split():
        case(f"ui_{f}", lambda x, f=f: getattr(torch, f)(x), ints(3, 5, low=1))
    case("f_gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), r(3, 5))
    holes = torch.tensor([[1.0, float("nan"), -2.0], [float("nan"), 0.5, float("nan")]])
    case("f_threshold_nan", lambda x: F.threshold(x, 0.2, -7.0), holes)
    case("r_nansum", lambda x: (x.nansum(), x.nansum(1), x.nansum(0, keepdim=True)), holes)
    case("e_fmax_fmin", lambda x, y: (torch.fmax(x, y), torch.fmin(x, y)), holes, r(2, 3))
    case("f_elu_alpha", lambda x: F.elu(x, 0.3), r(3, 5))
    case("f_softplus_beta", lambda x: F.softplus(x, 2.0), r(3, 5))
    case("f_threshold", lambda x: F.threshold(x, 0.2, 7.0), r(3, 5))
    case("f_glu", lambda x: F.glu(x, 1), r(3, 6))
    case("f_prelu", lambda x, w: F.prelu(x, w), r(2, 3, 4), r(3))
    types = [torch.float32, torch.int64, torch.int32, torch.bool, torch.uint8]
    for a in types:
        for b in types:
            x = (2 * r(3, 4)).to(a) if a.is_floating_point else ints(3, 4, low=0).to(a)
            y = (2 * r(3, 4)).to(b) if b.is_floating_point else ints(3, 4, low=1).to(b)
            n = f"{str(a)[6:]}_{str(b)[6:]}"
            for f in "add mul maximum eq lt".split():
                case(f"p_{f}_{n}", lambda x, y, f=f: getattr(torch, f)(x, y), x, y)
            if torch.bool not in (a, b):
                case(f"p_sub_{n}", torch.sub, x, y)
            case(f"p_div_{n}", torch.div, x, y + 1 if b is not torch.bool else torch.ones(3, 4, dtype=b))
    for k in (2, 1.5, True):
        for t in (torch.float32, torch.float16, torch.int64):
            x = r(3, 4).to(t) if t.is_floating_point else ints(3, 4).to(t)
            case(f"s_add_{k}_{t}", lambda x, k=k: x + k, x)
            case(f"s_mul_{k}_{t}", lambda x, k=k: x * k, x)
            case(f"s_rsub_{k}_{t}", lambda x, k=k: 3 - x * k, x)
            case(f"s_gt_{k}_{t}", lambda x, k=k: x > k, x)
    case("zero_dim", lambda x, y: x + y, r(3).half(), torch.tensor(1.5))
    case("one_dim", lambda x, y: x + y, r(3).half(), torch.tensor([1.5]))
    case("alpha", lambda x, y: torch.add(x, y, alpha=3) - torch.sub(x, y, alpha=0.5), r(3), r(3))
    case("broadcast", lambda x, y: x * y, r(4, 1, 3), r(5, 1))
    case("floor_divide", lambda x, y: (x // y, x % y, torch.fmod(x, y)), ints(20), ints(20, low=1))
    case("floor_divide_neg", lambda x: (x // -3, x % -3, x // 4, x % 4), ints(20))
    case("floor_divide_f", lambda x, y: (x // y, x % y, torch.fmod(x, y)), 5 * r(20), r(20))
    case("div_modes", lambda x, y: (torch.div(x, y, rounding_mode="floor"), torch.div(x, y, rounding_mode="trunc")), 5 * r(20), r(20))
    case("div_modes_i", lambda x, y: (torch.div(x, y, rounding_mode="floor"), torch.div(x, y, rounding_mode="trunc")), ints(20), ints(20, low=1))
    case("pow", lambda x: (x ** 2, x ** 3, x ** 0.5, x ** -1, x ** -0.5, 2 ** x, x ** x), positive(4))
    case("pow_i", lambda x: (x ** 2, x ** 3), ints(6))
    case("atan2", torch.atan2, r(30), r(30))
    case("clamp", lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.1), x.clamp(0)), r(9))
    case("clamp_i", lambda x: (x.clamp(-2, 3), x.clamp(min=0.5)), ints(9))
    case("clamp_t", lambda x, y: (x.clamp(min=y), x.clamp(y, y + 1)), r(9), r(9))
    case("lerp", lambda x, y: torch.lerp(x, y, 0.3), r(9), r(9))
    case("addcmul", lambda x, y: (torch.addcmul(x, x, y, value=0.5), torch.addcdiv(x, x, y + 9, value=2)), r(9), r(9))
    case("where", lambda x, y: (torch.where(x > 0, x, y), torch.where(x > 0, x, 0.0), torch.where(x > 0, 1, 0)), r(9), r(9))
    case("masked_fill", lambda x: x.masked_fill(x > 0, float("-inf")), r(3, 3))
    case("logical", lambda x, y: (x & y, x | y, x ^ y, ~x, torch.logical_and(x, y), torch.logical_xor(x, y)), r(9) > 0, r(9) > 0)
    case("bits", lambda x, y: (x & y, x | y, x ^ y, ~x, x & 3), ints(9), ints(9))
    case("nan_to_num", lambda x: torch.nan_to_num(x / x.abs().floor(), 1.0), r(9))
    # Reductions.
    for f in "sum mean amax amin prod var std argmax argmin any all logsumexp".split():
        g = getattr(torch, f)
        x = r(3, 4, 5)
        if f not in ("logsumexp", "amax", "amin"):
            case(f"r_{f}", lambda x, g=g: g(x), x)
        case(f"r_{f}_dim", lambda x, g=g: g(x, dim=1), x)
        case(f"r_{f}_keep", lambda x, g=g: g(x, dim=-1, keepdim=True), x)
    for f in "sum mean amax var std".split():
        case(f"r_{f}_dims", lambda x, g=getattr(torch, f): g(x, dim=(0, 2)), r(3, 4, 5))
    case("r_sum_int", lambda x: (x.sum(), x.sum(1), (x > 0).sum(), x.prod()), ints(3, 4, low=1, high=3, dtype=torch.int32))
    case("r_var0", lambda x: (x.var(1, unbiased=False), x.std(1, correction=0), torch.var_mean(x, 1)), r(3, 4))
    case("r_max_dim", lambda x: (x.max(1), x.min(1, keepdim=True), x.max(), torch.max(x, x + 1)), r(3, 4))
    case("r_norm", lambda x: (x.norm(), x.norm(dim=1), x.norm(p=1, dim=1), x.norm(p=3, dim=1), torch.linalg.vector_norm(x, float("inf"))), r(3, 4))
    case("f_normalize", lambda x: F.normalize(x, dim=1), r(3, 4))
    case("cosine", lambda x, y: F.cosine_similarity(x, y), r(3, 4), r(3, 4))
    case("cumsum", lambda x, i: (x.cumsum(1), i.cumsum(0)), r(3, 4), ints(3, 4, dtype=torch.int32))
    case("diff", lambda x: torch.diff(x), r(3, 4))
    # Movements.
    case("views", lambda x: (x.view(6, -1), x.reshape(-1), x.flatten(1), x.unflatten(1, (3, -1)), x.permute(2, 0, 1), x.transpose(0, -1)), r(2, 6, 4))
    case("squeezes", lambda x: (x.squeeze(), x.squeeze(1), x.squeeze(0), x.unsqueeze(-1), x.unsqueeze(1), x.movedim(0, 2)), r(2, 1, 4))
    case("slices", lambda x: (x[1], x[:, -1], x[:, 1:3], x[..., ::2], x[-2:], x[:, :-1], x.narrow(1, 1, 2)), r(3, 4, 5))
    case("splits", lambda x: (x.split(2, 1), x.split([1, 3, 1], 1), x.chunk(3, 1), x.unbind(0), x.tensor_split(2, 1)), r(3, 5))
    case("cat", lambda x, y: (torch.cat([x, y], 1), torch.stack([x, x], -1), torch.cat([x, y.long()], 0)), r(3, 5), r(3, 5))
    case("expand", lambda x: (x.expand(4, -1, 5), x.repeat(2, 3, 1), x.expand(3, 5)), r(3, 1))
    case("flips", lambda x: (x.flip(0), x.flip([0, 1]), x.roll(2, 1), x.roll((1, -1), (0, 1)), x.roll(3)), r(3, 5))
    case("pads", lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 2, 3, 0), value=2.0), F.pad(x, (-1, 2))), r(2, 3, 5))
    for m in "reflect replicate circular".split():
        case(f"pad_{m}", lambda x, m=m: F.pad(x, (1, 2, 2, 1), mode=m), r(2, 3, 5, 6))
    case("diagonal", lambda x: (x.diagonal(), x.diagonal(1, 0, 2), x.unfold(1, 2, 1)), r(4, 4, 3))
    case("tri", lambda x: (x.tril(), x.triu(1), x.tril(-1)), r(4, 5))
    case("pixels", lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 2)), r(2, 8, 4, 6))
    case("casts", lambda x: (x.to(torch.int64), x.half(), x.bool(), x.double(), x.int().float(), x.type_as(x.half())), 3 * r(9))
    case("factories", lambda x: (x.new_zeros(2, 3), torch.full((2,), 1.5), torch.ones_like(x), torch.arange(5), torch.arange(1, 8, 2), torch.arange(0.0, 1.0, 0.3), torch.linspace(0, 1, 7), torch.eye(3), torch.full_like(x, 2), torch.zeros(3, dtype=torch.bool), x + 1), r(3))
    case("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij") + torch.meshgrid(x, y, indexing="xy"), r(3), r(4))
    # Indexing.
    i = torch.tensor([0, 2, -1])
    case("index", lambda x, i: (x[i], x[:, i], x[i, :, i], x[i, i], x[:, i[:, None], i], x[x[:, 0, 0] > 0]), r(4, 4, 4), i)
    case("index_select", lambda x, i: (x.index_select(1, i.abs()), F.embedding(i.abs(), x)), r(4, 4), i)
    case("gather", lambda x, i: (x.gather(1, i), torch.take_along_dim(x, i, 1)), r(3, 5), ints(3, 2, low=0, high=5))
    case("scatter", lambda x, i, s: (x.scatter(1, i, s), x.scatter(1, i, 2.0), x.scatter_add(1, i, s), x.scatter_reduce(1, i, s, "amax")), r(3, 5), torch.tensor([[0, 3], [1, 2], [4, 0]]), r(3, 2))

    def put(x, i, v):
        y = x.clone()
        y[i] = v
        z = x.clone()
        z[:, i] = 1.0
        w = x.clone()
        w[w > 0] = 0.5
        return y, z, w, x.index_put((i, i), v[:, 0, 0], accumulate=True) if x.dim() == 2 else y

    case("index_put", put, r(4, 4, 4), torch.tensor([0, 2, 3]), r(3, 4, 4))
    case("topk", lambda x: (x.topk(2), x.topk(2, dim=0, largest=False), x.sort(1, descending=True), x.argsort(0)), r(3, 5))
    case("one_hot", lambda i: F.one_hot(i, 7), ints(3, 2, low=0, high=7))
    case("nonzero", lambda x: ((x > 0).nonzero(), x.masked_select(x > 0)), r(3, 5))

    # In place and through views.
    def inplace(x):
        y = x.clone()
        y.add_(1).mul_(2)
        y[:, 0] = 5
        y[1:, 2:4].sub_(3)
        v = y.view(-1)
        v[3] = 9.0
        z = y.t()
        z[0].zero_()
        y[:, ::2] += 10
        return y, v, z

    case("inplace", inplace, r(4, 6))

    def inplace2(x):
        a, b = x.clone().chunk(2, 1)
        c = torch.zeros(3, 4)
        c.narrow(1, 1, 2).copy_(a)
        c.fill_diagonal_(1) if False else c.clamp_(-1, 1)
        d = x.clone()
        d.masked_fill_(d > 0, 0.0)
        d.unsqueeze(0).squeeze(0).relu_()
        i = torch.zeros(3, dtype=torch.int64)
        i.add_(2)
        return a, b, c, d, i

    case("inplace2", inplace2, r(3, 4))
    # Layers.
    for n, f, shape, w in [("1d", F.conv1d, (2, 4, 9), (6, 4, 3)), ("2d", F.conv2d, (2, 4, 9, 8), (6, 4, 3, 2)), ("3d", F.conv3d, (1, 4, 5, 6, 5), (6, 4, 2, 2, 2))]:
        case(f"conv{n}", lambda x, w, b, f=f: f(x, w, b, stride=2, padding=1), r(*shape), r(*w), r(6))
        case(f"conv{n}_same", lambda x, w, f=f: f(x, w, None, padding="same", dilation=2), r(*shape), r(*w))
        case(f"conv{n}_groups", lambda x, w, f=f: f(x, w, None, groups=2, padding="valid"), r(*shape), r(w[0], w[1] // 2, *w[2:]))
    for n, f, shape, w in [("1d", F.conv_transpose1d, (2, 4, 9), (4, 6, 3)), ("2d", F.conv_transpose2d, (2, 4, 9, 8), (4, 6, 3, 2))]:
        case(f"convt{n}", lambda x, w, b, f=f: f(x, w, b, stride=2, padding=1, output_padding=1), r(*shape), r(*w), r(6))
        case(f"convt{n}_groups", lambda x, w, f=f: f(x, w, None, groups=2, dilation=2), r(*shape), r(*w))
    case("conv2d_unbatched", lambda x, w: F.conv2d(x, w), r(4, 9, 8), r(6, 4, 3, 3))
    for kw in [dict(kernel_size=2), dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=3, stride=2, ceil_mode=True), dict(kernel_size=3, stride=2, padding=1, ceil_mode=True), dict(kernel_size=2, stride=2, ceil_mode=True)]:
        n = "_".join(f"{k[0]}{int(v)}" for k, v in kw.items())
        case(f"maxpool_{n}", lambda x, kw=kw: F.max_pool2d(x, **kw), r(2, 3, 9, 10))
        case(f"maxpool_i_{n}", lambda x, kw=kw: F.max_pool2d(x, return_indices=True, **kw), r(2, 3, 9, 10))
        case(f"avgpool_{n}", lambda x, kw=kw: F.avg_pool2d(x, **kw), r(2, 3, 9, 10))
        case(f"avgpool_ex_{n}", lambda x, kw=kw: F.avg_pool2d(x, count_include_pad=False, **kw), r(2, 3, 9, 10))
        case(f"avgpool_div_{n}", lambda x, kw=kw: F.avg_pool2d(x, divisor_override=3, **kw), r(2, 3, 9, 10))
    case("pool1d", lambda x: (F.max_pool1d(x, 3, 2, 1), F.avg_pool1d(x, 3, 2, 1)), r(2, 3, 9))
    for s in (1, 3, 4, (2, 5), (None, 3)):
        case(f"adaptive_{s}", lambda x, s=s: F.adaptive_avg_pool2d(x, s), r(2, 3, 9, 10))
        case(f"adaptive_max_{s}", lambda x, s=s: F.adaptive_max_pool2d(x, s), r(2, 3, 9, 10))
    for m in "nearest nearest-exact bilinear bicubic area".split():
        for kw in [dict(scale_factor=2.0), dict(size=(7, 13)), dict(scale_factor=1.7), dict(scale_factor=(0.5, 0.7))]:
            n = f"{m}_{list(kw.values())[0]}"
            case(f"up_{n}", lambda x, m=m, kw=kw: F.interpolate(x, mode=m, **kw), r(1, 2, 6, 8))
            if m in ("bilinear", "bicubic"):
                case(f"upc_{n}", lambda x, m=m, kw=kw: F.interpolate(x, mode=m, align_corners=True, **kw), r(1, 2, 6, 8))
                case(f"upaa_{n}", lambda x, m=m, kw=kw: F.interpolate(x, mode=m, antialias=True, **kw), r(1, 2, 6, 8))
    case("up_recompute", lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True), r(1, 2, 6, 8))
    for m in "bilinear nearest bicubic".split():
        for p in "zeros border reflection".split():
            for c in (True, False):
                case(f"grid_{m}_{p}_{c}", lambda x, g, m=m, p=p, c=c: F.grid_sample(x, g, m, p, c), r(1, 2, 6, 8), r(1, 4, 5, 2) * 0.8)
    case("batch_norm", lambda x, m, v, w, b: (F.batch_norm(x, m, v, w, b), F.batch_norm(x, m, v)), r(2, 3, 4), r(3), positive(3), r(3), r(3))
    case("instance_norm", lambda x, w, b: (F.instance_norm(x), F.instance_norm(x, weight=w, bias=b)), r(2, 3, 4, 5), r(3), r(3))
    case("layer_norm", lambda x, w, b: (F.layer_norm(x, (5,)), F.layer_norm(x, (4, 5), w, b), F.layer_norm(x, (4, 5), w)), r(2, 4, 5), r(4, 5), r(4, 5))
    case("group_norm", lambda x, w, b: (F.group_norm(x, 2), F.group_norm(x, 3, w, b)), r(2, 6, 4), r(6), r(6))
    case("rms_norm", lambda x, w: (F.rms_norm(x, (5,)), F.rms_norm(x, (5,), w, 1e-5)), r(2, 4, 5), r(5))
    case("lrn", lambda x: F.local_response_norm(x, 3), r(2, 6, 4, 4))
    case("softmax", lambda x: (x.softmax(-1), F.softmax(x, 0), F.log_softmax(x, 1), x.half().softmax(-1, dtype=torch.float32)), r(3, 5))
    case("linear", lambda x, w, b: (F.linear(x, w, b), F.linear(x[0], w), F.linear(x[0, 0], w, b)), r(2, 3, 5), r(4, 5), r(4))
    case("products", lambda a, b, c: (a @ b, a[0] @ b[0], torch.bmm(a, b), a @ c, torch.baddbmm(a @ b, a, b, beta=0.5, alpha=2), torch.addmm(c, a[0], b[0], beta=0.5), c @ b[0], torch.outer(c, c)), r(2, 3, 4), r(2, 4, 4), r(4))
    case("einsum", lambda a, b: (torch.einsum("bij,bjk->bik", a, b), torch.einsum("bij->bji", a), torch.einsum("...ij,...jk", a, b)), r(2, 3, 4), r(2, 4, 5))
    q = r(2, 4, 5, 8)
    case("sdpa", lambda q, m, n: (F.scaled_dot_product_attention(q, q, q), F.scaled_dot_product_attention(q, q, q, m), F.scaled_dot_product_attention(q, q, q, n), F.scaled_dot_product_attention(q, q, q, is_causal=True), F.scaled_dot_product_attention(q, q, q, scale=0.3), F.scaled_dot_product_attention(q, q[:, :2], q[:, :2], enable_gqa=True)), q, r(5, 5), r(2, 1, 5, 5) > 0)
    case("unfold", lambda x: (F.unfold(x, 3, padding=1), F.unfold(x, (2, 3), dilation=2, stride=2)), r(2, 3, 8, 9))
    case("fold", lambda x: F.fold(x, (6, 6), 2, stride=2), r(2, 12, 9))
    case("affine_grid", lambda t: F.affine_grid(t, (2, 3, 4, 5), align_corners=False), r(2, 2, 3))

    # What models use beyond those.
    case("compares", lambda x, y: (x < y, x <= y, x >= y, x != y, x.eq(0), x.ge(0.5), x.le(1), x.ne(1), torch.minimum(x, y)), ints(9).float(), ints(9).float())
    case("scalars", lambda x: (x.remainder(0.7), torch.remainder(x, -2), torch.fmod(x, 1.5), torch.rsub(x, 2, alpha=3), x.sub(0.5, alpha=2), x.clamp_min(0.1), x.clamp_max(0.1), torch.div(x, 3)), 4 * r(9))
    case("scalar_tensors", lambda x: (torch.scalar_tensor(2.5) * x, torch.tensor(3) + x, torch.tensor([1.0, 2.0, 3.0]) * x, torch.as_tensor([1, 2, 3]) + x, x + x.new_tensor(2.0)), r(3))
    case("news", lambda x: (x.new_full((2, 3), 1.5), x.new_ones(2, 3), torch.zeros_like(x), torch.ones(2, 3), torch.zeros(2, dtype=torch.int32), torch.full_like(x, 3, dtype=torch.int64)), r(3))
    case("logspace", lambda x: (x + torch.logspace(0, 1, 5), torch.logspace(-1, 2, 4, 2.0) + 0 * x[:4], torch.arange(2, 7) + 0 * x.long()), r(5))
    case("expand_as", lambda x, y: (x.expand_as(y), x.view_as(y[0:1].clone()), torch.broadcast_tensors(x, y), x.type_as(y), x.to(y)), r(1, 4), r(3, 4))
    case("layouts", lambda x: (x.detach(), x.contiguous(), x.clone(), x.to("cpu"), x.as_strided((3, 2), (4, 1)), x.as_strided((2, 2), (1, 4), 1)), r(3, 4))
    case("squeeze_dims", lambda x: (x.squeeze((0, 2)), x.squeeze(-1), x.unsqueeze(0).unsqueeze(-1), x.swapaxes(0, 1), x.ravel(), x.tile(2, 1, 1, 2)), r(1, 3, 1, 4))
    case("split_sizes", lambda x: (x.split_with_sizes([1, 4], 1), torch.split(x, 2, -1), x.chunk(2, 0), torch.hstack([x, x]), torch.vstack([x, x])), r(3, 5))
    case("scatters", lambda x, y: (torch.slice_scatter(x, y, 1, 1, 5, 2), torch.select_scatter(x, y[:, 0], 1, 2)), r(3, 5), r(3, 2))
    case("index_more", lambda x, i, y: (x.index_add(0, i, y), x.index_fill(0, i, 2.0), torch.masked_fill(x, x > 0, x.sum())), r(5, 4), torch.tensor([0, 3]), r(2, 4))
    case("repeats", lambda x: (x.repeat_interleave(2), x.repeat_interleave(3, 1)), r(3, 4))
    case("stats", lambda x: (torch.std_mean(x, 1), torch.aminmax(x), torch.count_nonzero(x > 0), x.sum((0, 1)), x.mean((0, 1), keepdim=True), x.any(1), x.all(0)), r(3, 4))
    case("unary_more", lambda x: (torch.logit(x), torch.deg2rad(x), torch.rad2deg(x), torch.acos(x), torch.asin(x), torch.atanh(x), torch.acosh(x + 1), torch.erfc(x)), torch.rand(9) * 0.9 + 0.05)
    case("binary_more", lambda x, y: (torch.logaddexp(x, y), torch.hypot(x, y), torch.heaviside(x, y)), r(9), r(9))
    case("logic_more", lambda x, y: (torch.logical_or(x, y), torch.logical_not(x), torch.bitwise_and(x, y), torch.bitwise_or(x, y)), ints(9, low=0), ints(9, low=0))
    case("products_more", lambda a, b, v: (torch.mm(a, b), torch.mv(a, v), torch.dot(v, v), torch.addmv(a[:, 0], a, v, beta=0.5), torch.linalg.norm(a), torch.inner(a, a), a.t(), a.mT), r(3, 4), r(4, 5), r(4))
    case("eval_dropout", lambda x: (F.dropout(x, 0.5, False), F.dropout2d(x, 0.5, False), F.alpha_dropout(x, 0.5, False), F.feature_alpha_dropout(x, 0.5, False)), r(2, 3, 4, 5))
    case("inplace_activations", lambda x: (F.silu(x.clone(), True), F.hardswish(x.clone(), True), F.relu6(x.clone(), True), F.hardsigmoid(x.clone(), True), F.hardtanh(x.clone(), -0.5, 1.0, True), F.leaky_relu(x.clone(), 0.2, True), F.elu(x.clone(), 1.0, True), x.clone().sigmoid_(), x.clone().tanh_(), x.clone().round_(), x.clone().clamp_(-1, 1)), 3 * r(4, 5))
    case("inplace_more", lambda x, y: (x.clone().copy_(y), x.clone().fill_(2), x.clone().mul_(3), x.clone().mul_(y), x.clone().div_(2), x.clone().sub_(y), x.clone().masked_fill_(y > 0, 1), x.clone().zero_()), r(3, 4), r(3, 4))
    case("adaptive_1d_3d", lambda x, y: (F.adaptive_avg_pool1d(x, 3), F.adaptive_avg_pool1d(x, 4), F.adaptive_avg_pool3d(y, 2), F.adaptive_avg_pool3d(y, (1, 2, 3)), F.adaptive_max_pool1d(x, 3)), r(2, 3, 9), r(1, 2, 4, 6, 6))
    case("pool_3d", lambda x: (F.max_pool3d(x, 2), F.max_pool3d(x, 3, 2, 1), F.avg_pool3d(x, 2), F.avg_pool3d(x, 3, 2, 1, count_include_pad=False), F.lp_pool1d(x[0, 0], 2, 2)), r(1, 2, 5, 6, 7))
    for m in "nearest nearest-exact linear".split():
        case(f"up1_{m}", lambda x, m=m: (F.interpolate(x, scale_factor=2.0, mode=m), F.interpolate(x, size=7, mode=m)), r(1, 2, 9))
    for m in "nearest nearest-exact trilinear".split():
        case(f"up3_{m}", lambda x, m=m: (F.interpolate(x, scale_factor=2.0, mode=m), F.interpolate(x, size=(5, 3, 7), mode=m)), r(1, 2, 4, 3, 5))
    case("convt3d", lambda x, w, b: F.conv_transpose3d(x, w, b, stride=2, padding=1), r(1, 2, 3, 4, 3), r(2, 3, 3, 3, 2), r(3))
    case("convolution", lambda x, w: (torch.convolution(x, w, None, [1, 2], [1, 0], [1, 1], False, [0, 0], 2), torch._convolution(x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2, False, False, True, True)), r(2, 4, 6, 7), r(6, 2, 3, 3))
    case("native_norms", lambda x, w, b: (torch.native_layer_norm(x, (5,), w, b, 1e-5)[0], torch.native_group_norm(x.unsqueeze(-1), None, None, 2, 4, 5, 2, 1e-5)[0]), r(2, 4, 5), r(5), r(5))
    case("weight_norm", lambda v, g: torch._weight_norm(v, g, 0), r(3, 4), r(3, 1))
    case("pads_more", lambda x: (torch.constant_pad_nd(x, (1, 2), 1.5), F.pad(x.long(), (0, 1), value=-1), F.pad(x, (0, 0, 1, 1, 2, 0))), r(2, 3, 5))
    case("sorts", lambda x: (x.sort(), torch.sort(x, stable=True, dim=0), x.topk(3, sorted=True), x.max(0), x.min(), x.argmin(1)), r(4, 5))
    case("softmax_more", lambda x: (torch._softmax(x, 1, False), torch._log_softmax(x, 1, False), F.softmin(x, 1), torch.logsumexp(x, (0, 1))), r(3, 5))

    class Recurrent(torch.nn.Module):
        def __init__(self, kind, **kw):
            super().__init__()
            self.r = getattr(torch.nn, kind)(4, 6, batch_first=True, **kw)

        def forward(self, x):
            return self.r(x)

    for kind in "LSTM GRU RNN".split():
        for n, kw in [("one", {}), ("both", {"bidirectional": True, "num_layers": 2}), ("bare", {"bias": False})]:
            module = Recurrent(kind, **kw)
            case(f"rnn_{kind}_{n}", module, r(2, 5, 4))


def flatten(out):
    if isinstance(out, torch.Tensor):
        return [out]
    return [t for o in out for t in flatten(o)]


class Module(torch.nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *args):
        return self.f(*args)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    build()
    made = 0
    for name, f, inputs in CASES:
        if args.only not in name:
            continue
        name = "".join(c if c.isalnum() or c == "_" else "-" for c in name)
        try:
            with torch.no_grad():
                outputs = flatten(f(*inputs))
            arrays = {f"in_{i}": t.numpy() for i, t in enumerate(inputs)} | {f"out_{i}": t.numpy() for i, t in enumerate(outputs)}
            np.savez(args.folder / f"{name}.npz", **arrays)
            torch.export.save(torch.export.export(Module(f).eval(), inputs, strict=False), str(args.folder / f"{name}.pt2"))
            made += 1
        except Exception as e:
            print(f"{name}: torch cannot: {str(e).strip().splitlines()[0][:150]}", flush=True)
    print(f"{made} archives")


if __name__ == "__main__":
    main()
