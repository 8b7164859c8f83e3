from __future__ import annotations

import math

import pytest
import torch
from frontend.checking import check_lowering, check_table

aten = torch.ops.aten
NAN, INF = math.nan, math.inf


def both(name: str, *args: object, **kwargs: object):
    return lambda x: getattr(torch, name)(x, *args, **kwargs)


SUMS = {
    "sum": both("sum"),
    "sum 0": both("sum", 0),
    "sum last keep": both("sum", -1, keepdim=True),
    "sum two": both("sum", (0, 2)),
    "sum none": lambda x: aten.sum.dim_IntList(x, []),
    "prod": both("prod"),
    "prod 1": both("prod", 1, keepdim=True),
    "amax": both("amax"),
    "amax two": both("amax", (1, -1), keepdim=True),
    "amin": both("amin", 0),
    "max": both("max"),
    "min": both("min"),
    "aminmax": both("aminmax"),
    "aminmax 1": both("aminmax", dim=1, keepdim=True),
    "any": both("any"),
    "any 1": both("any", 1),
    "any two": both("any", (0, 1), keepdim=True),
    "all": both("all"),
    "all 0": both("all", 0, keepdim=True),
    "all none": lambda x: aten.all.dims(x, []),
    "all every": lambda x: aten.all.dims(x, None),
    "count_nonzero": both("count_nonzero"),
    "count_nonzero 1": both("count_nonzero", 1),
    "max 0": both("max", 0),
    "min -1": both("min", -1, keepdim=True),
    "max values": lambda x: torch.max(x, 1)[0],
    "max where": lambda x: torch.max(x, 1)[1],
    "argmax": both("argmax"),
    "argmax keep": both("argmax", keepdim=True),
    "argmax 1": both("argmax", 1),
    "argmin 0": both("argmin", 0, keepdim=True),
}
MEANS = {
    "mean": both("mean"),
    "mean two": both("mean", (0, 1), keepdim=True),
    "mean typed": both("mean", 1, dtype=torch.float64),
    "sum typed": both("sum", 1, dtype=torch.float64),
    "prod typed": both("prod", 1, dtype=torch.float64),
    "nansum": both("nansum", 1),
    "nanmean": both("nanmean", 1),
    "var": both("var"),
    "var 1": both("var", 1, keepdim=True),
    "var biased": both("var", (0, 2), correction=0),
    "var unbiased flag": lambda x: torch.var(x, 1, unbiased=False),
    "var correction": both("var", 2, correction=1.5),
    "std": both("std", (0, 1)),
    "std all": both("std"),
    "var_mean": both("var_mean", 1),
    "std_mean": both("std_mean", (0, 2), keepdim=True),
    "logsumexp": both("logsumexp", 1),
    "logsumexp two": both("logsumexp", (0, 2), keepdim=True),
    "norm": both("norm"),
    "norm 1": both("norm", 1, dim=0),
    **{f"vector_norm {p}": lambda x, p=p: torch.linalg.vector_norm(x, p, dim=1) for p in (0, 1, 2, 3, 0.5, INF, -INF)},
    "vector_norm all": lambda x: torch.linalg.vector_norm(x),
    "dist": lambda x: torch.dist(x, x * 0.5 + 1, 2),
    "normalize": lambda x: torch.nn.functional.normalize(x, dim=1),
}
RUNNING = {
    "cumsum": both("cumsum", 1),
    "cumsum first": both("cumsum", 0),
    "cumprod": both("cumprod", -1),
    "cummax": both("cummax", 1),
    "cummin": both("cummin", 0),
    "diff": both("diff", dim=1),
}


def some(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(*shape, generator=generator, dtype=torch.float64) * 4 - 2).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_reductions_of_floats(dtype):
    check_table({**SUMS, **MEANS, **RUNNING, "logcumsumexp": both("logcumsumexp", 1)}, some(dtype, 3, 4, 5))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool], ids=str)
def test_reductions_of_integers_and_bools(dtype):
    x = some(torch.float32, 3, 4, 5).abs().to(dtype)
    unsupported = ("prod 1", "aminmax", "aminmax 1") if dtype is torch.bool else ()
    table = {
        k: v
        for k, v in {**SUMS, **RUNNING}.items()
        if k not in unsupported and not (dtype is torch.bool and k == "diff")
    }
    argless = dtype is torch.bool
    check_table({k: v for k, v in table.items() if not (argless and "arg" in k)}, x)


def test_not_a_number_wins_and_the_first_position_counts():
    x = torch.tensor([[1.0, NAN, 3.0, NAN], [2.0, 7.0, 7.0, -INF], [INF, INF, 0.0, -0.0]])
    kept = {k: v for k, v in SUMS.items() if "two" not in k}
    check_table(
        {
            **kept,
            **RUNNING,
            "median": both("median", 1),
            "median all": both("median"),
            "logsumexp": both("logsumexp", 1),
        },
        x,
    )
    check_table({"logsumexp": both("logsumexp", 1)}, torch.tensor([[-INF, -INF], [INF, 1.0], [-INF, 2.0]]))


def test_reductions_of_run_time_extents():
    x, others = some(torch.float32, 3, 4, 5), [(some(torch.float32, n, m, 5),) for n, m in ((2, 7), (8, 3))]
    axes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
    table = {
        k: v for k, v in {**SUMS, **MEANS, **RUNNING}.items() if k != "std_mean"
    }  # torch cannot export it with symbols
    check_table(table, x, dynamic=axes, also=others)


def test_reductions_of_a_0d_tensor():
    table = {
        "sum": lambda x: x.sum(0),
        "sum all": lambda x: x.sum(),
        "mean": lambda x: x.mean(-1, keepdim=True),
        "prod": lambda x: x.prod(0),
        "max": lambda x: x.max(0),
        "argmax": lambda x: x.argmax(),
        "argmin": lambda x: x.argmin(-1),
        "any": lambda x: x.any(0),
        "amax": lambda x: x.amax(()),
        "aminmax": lambda x: torch.aminmax(x, dim=0),
        "cumsum": lambda x: x.cumsum(0),
        "cummax": lambda x: x.cummax(0),
        "logsumexp": lambda x: x.logsumexp(0),
        "norm": lambda x: torch.linalg.vector_norm(x),
        "median": lambda x: x.median(0),
        "kthvalue": lambda x: x.kthvalue(1),
        "sort": lambda x: x.sort(),
        "topk": lambda x: x.topk(1),
        "argsort": lambda x: x.argsort(),
    }
    check_table(table, torch.tensor(-2.5))


def test_reductions_of_nothing():
    table = {
        "sum": lambda x: x.sum(0),
        "all": lambda x: x.all(),
        "prod": lambda x: x.prod(0),
        "mean": lambda x: x.mean(0),
        "any": lambda x: x.any(0),
        "logsumexp": lambda x: x.logsumexp(0),
        "cumsum": lambda x: x.cumsum(0),
        "amax of the other axis": lambda x: x.amax(1),
        "norm": lambda x: torch.linalg.vector_norm(x, dim=0),
    }
    check_table(table, torch.empty(0, 3))


def test_trace_of_a_matrix():
    for shape in ((3, 3), (2, 5), (4, 1)):
        check_lowering(torch.trace, some(torch.float32, *shape))
        check_lowering(torch.trace, some(torch.int64, *shape))


def test_halves_accumulate_in_single_precision():
    x = torch.full((4096,), 0.1, dtype=torch.bfloat16)
    check_table({"sum": both("sum"), "mean": both("mean"), "cumsum": both("cumsum", 0)}, x, rtol=4e-3)


def test_cumulative_operators_do_linear_work():
    traced = check_lowering(lambda x: torch.cumsum(x, 0), torch.randn(64))
    scan = traced.algebra.stages[-1]
    assert [len(stage.bodies) for stage in scan.body.stages] == [1]
    assert scan.body.inputs[0].shape == ()


def test_distances():
    table = {
        f"cdist {p}": lambda a, b, p=p: torch.cdist(a, b, p, compute_mode="donot_use_mm_for_euclid_dist")
        for p in (0.0, 1.0, 2.0, 3.0, INF)
    }
    check_table(table, torch.randn(3, 4), torch.randn(5, 4))
    check_table(table, torch.randn(2, 1, 3, 4), torch.randn(2, 5, 4))
    check_table({"none": lambda a, b: torch.cdist(a, b)}, torch.randn(3, 0), torch.randn(5, 0))
    check_table(
        {f"pdist {p}": lambda x, p=p: aten._pdist_forward(x, p) for p in (0.0, 1.0, 2.0, 3.0, INF)}, torch.randn(5, 3)
    )
