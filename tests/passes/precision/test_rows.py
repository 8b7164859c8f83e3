"""What precisions cost nets trained on digits, and how well second derivatives say so; the tables are printed.

Weights and activations are fake-quantized: the arithmetic is that of floats, so these rows are about the predictions.
Every layer is quantized, the first and the last included. Nets are trained on four fifths of the data and tested on the
rest; over five folds every one of the 1,797 samples is tested once.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from scipy.stats import t as student
from support.quantized import (
    Study,
    curvature,
    digits,
    layer_inputs,
    layers,
    metrics,
    net,
    slope,
    study,
    with_activations,
    with_weights,
)
from torch import nn

from tpopt.passes.precision.codebooks import lloyd_max, rotated
from tpopt.passes.precision.equalisation import equalising_scales
from tpopt.passes.precision.quantizers import asymmetric, bias_correction, groupwise, least_error, symmetric
from tpopt.passes.precision.ranges import min_max

pytestmark = pytest.mark.acceptance

NETS = tuple(digits.NETS)
FOLDS = range(digits.FOLDS)
DRAWS = 200
RESAMPLES = 2000


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The nets are small, and sums are taken in one order whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def say(line: str) -> None:
    """What ``-s`` shows."""
    sys.stdout.write(line + "\n")


def show(title: str, header: str, rows: Sequence[Sequence[object]]) -> None:
    """Prints an aligned table; the first column is text."""
    cells = [header.split(" | "), *([c if isinstance(c, str) else f"{c:.4g}" for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    say(f"\n{title}")
    for row in cells:
        say("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))


def drops(change: Callable[[nn.Module, int], nn.Module], name: str) -> tuple[list[float], float, list[list[float]]]:
    """Points of accuracy that a change costs: by fold, over all samples, and a row for each fold."""
    rows, lost = [], 0.0
    for fold in FOLDS:
        test = digits.folds()[fold][1]
        before, after = net(name, fold), change(net(name, fold), fold)
        found = [100 * digits.accuracy(m, test) for m in (before, after)]
        losses = [float(digits.loss(m(digits.digits()[0][test]), digits.digits()[1][test])) for m in (before, after)]
        rows.append([*found, found[0] - found[1], *losses])
        lost += (found[0] - found[1]) * len(test)
    return [row[2] for row in rows], lost / len(digits.digits()[1]), rows


def interval(values: Sequence[float]) -> str:
    """The 95 % interval of the mean of a few values (Student)."""
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{np.mean(values) - half:+.2f} .. {np.mean(values) + half:+.2f}"


def summary(name: str, rows: list[list[float]], drop: float) -> list[object]:
    """Means over folds, and the drop over all samples with its interval over the folds."""
    by = np.mean(rows, axis=0)
    return [name, f"{by[0]:.2f}", f"{by[1]:.2f}", f"{drop:+.2f}", interval([r[2] for r in rows]), by[3], by[4]]


HEADER = "net | float % | quantized % | drop | 95 % over folds | loss | quantized"


def eight_bits(model: nn.Module, fold: int, channels: int | None = 0) -> nn.Module:
    """Weights in 8 bits and activations in 8, calibrated on what the net was trained on."""
    weights = with_weights(model, dict.fromkeys(layers(model), 8), channels)
    return with_activations(weights, digits.digits()[0][digits.folds()[fold][0]])


@pytest.mark.parametrize("name", NETS)
def test_eight_bits_cost_half_a_point_at_most(name):
    _, drop, rows = drops(eight_bits, name)
    show("8 bits, weights and activations", HEADER, [summary(name, rows, drop)])
    assert drop <= 0.5


@pytest.mark.parametrize("name", NETS)
def test_equalisation_undoes_planted_outliers(name):
    def planted(model: nn.Module, fold: int) -> nn.Module:
        return digits.with_outliers(name, model, seed=fold)

    def equalised(model: nn.Module, fold: int) -> nn.Module:
        changed = planted(model, fold)
        for first, second in digits.HIDDEN[name]:
            one, other = changed.get_submodule(first), changed.get_submodule(second)
            digits.rescale(one, other, equalising_scales(one.weight, other.weight))
        return changed

    ways = {
        "as planted, float": planted,
        "one scale a tensor": lambda m, fold: eight_bits(planted(m, fold), fold, None),
        "one scale an output": lambda m, fold: eight_bits(planted(m, fold), fold),
        "equalised, one scale a tensor": lambda m, fold: eight_bits(equalised(m, fold), fold, None),
    }
    found = {way: drops(change, name) for way, change in ways.items()}
    show(f"{name}, outliers planted", HEADER, [summary(way, rows, drop) for way, (_, drop, rows) in found.items()])
    assert found["as planted, float"][1] == 0
    assert found["equalised, one scale a tensor"][1] <= 0.5


@pytest.mark.parametrize("share", [0.6, 0.75])
@pytest.mark.parametrize("name", NETS)
def test_four_and_eight_bits_cost_a_point_at_most(name, share):
    chosen: list[str] = []

    def mixed(model: nn.Module, fold: int) -> nn.Module:
        s = study(name, fold, (4, 8))
        bits = s.chosen(share * s.size([8] * len(s.names)))
        chosen.append("".join(map(str, bits)) + f" ({s.size(bits) / s.size([8] * len(bits)):.3f})")
        weights = with_weights(model, dict(zip(layers(model), bits, strict=True)))
        return with_activations(weights, digits.digits()[0][digits.folds()[fold][0]])

    _, drop, rows = drops(mixed, name)
    show(f"4 and 8 bits, {share:.0%} of the size in 8", HEADER, [summary(name, rows, drop)])
    say("  ".join(chosen))
    assert drop <= 1.0


def four_bits(way: str, model: nn.Module, fold: int) -> nn.Module:
    """A copy with all weights in 4 bits; activations stay as they are."""
    changed = copy.deepcopy(model)
    inputs = layer_inputs(model, digits.digits()[0][digits.folds()[fold][0]])
    for name in layers(model):
        layer = changed.get_submodule(name)
        values = layer.weight.detach().flatten(1).numpy()
        found = {
            "symmetric": lambda v: symmetric(min_max(v, 0), 4).quantized(v),
            "symmetric, least error": lambda v: least_error(v, 4, channels=0).quantized(v),
            "asymmetric, least error": lambda v: least_error(v, 4, asymmetric, 0).quantized(v),
            "groups of 32": groupwise,
            "rotated": lambda v: rotated(v).values(),
        }[way.removesuffix(", bias corrected")](values)
        new = torch.from_numpy(np.asarray(found, dtype=np.float32)).reshape(layer.weight.shape)
        if way.endswith("bias corrected"):
            axis = 1 if layer.weight.ndim > 2 else -1
            mean = inputs[name].movedim(axis, -1).flatten(0, -2).mean(0)
            layer.bias.data += torch.from_numpy(bias_correction(layer.weight, new, mean))
        layer.weight.data = new
    return changed


@pytest.mark.parametrize("name", NETS)
def test_ways_to_four_bits(name):
    ways = [
        "symmetric", "symmetric, least error", "symmetric, least error, bias corrected", "asymmetric, least error",
        "groups of 32", "rotated", "rotated, bias corrected",
    ]  # fmt: skip
    found = {way: drops(partial(four_bits, way), name) for way in ways}
    show(f"{name}, all weights in 4 bits", HEADER, [summary(way, rows, drop) for way, (_, drop, rows) in found.items()])
    losses = {way: float(np.mean([row[4] for row in rows])) for way, (_, _, rows) in found.items()}
    assert losses["symmetric, least error"] < losses["symmetric"]


def rank(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's correlation."""
    return float(spearmanr(one, other).statistic)


def bootstrap(true: Sequence[float], one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of how much better ``one`` ranks than ``other``, on the same resampled assignments."""
    rng, table = np.random.default_rng(0), np.array([true, one, other])
    found = []
    for _ in range(RESAMPLES):
        t, a, b = table[:, rng.integers(0, len(true), len(true))]
        found.append(rank(a, t) - rank(b, t))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


FORMS = {
    "pairs and gradient": {},
    "pairs": {"gradient": False},
    "single layers and gradient": {"pairs": False},
    "single layers": {"pairs": False, "gradient": False},
}


def predictions(s: Study, title: str) -> tuple[list[float], dict[str, list[float]]]:
    """Measured and predicted increases of drawn assignments, shown."""
    drawn = s.drawn(DRAWS)
    true, unseen = [s.increase(b) for b in drawn], [s.increase(b, unseen=True) for b in drawn]
    found = {form: [s.predicted(b, **options) for b in drawn] for form, options in FORMS.items()}
    rows = [[f, rank(p, true), np.median(np.divide(p, true)), rank(p, unseen)] for f, p in found.items()]
    header = "predicted by | Spearman | predicted / true, median | Spearman, unseen data"
    span = f"true increase {min(true):.2g} to {max(true):.2g}, gradient {slope(s):.2g}"
    show(f"{title}: {DRAWS} assignments of {s.candidates[0]} to {s.candidates[-1]} bits, {span}", header, rows)
    halves = [[s.loss(b, on) for b in drawn] for on in s.halves()]
    say(f"true increases on two halves of the unseen data, Spearman: {rank(*halves):.4f}")
    return true, found


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("outliers", [False, True], ids=["trained", "outliers"])
def test_predictions_rank_as_the_loss_does(name, outliers):
    true, found = predictions(study(name, outliers=outliers), f"{name}, outliers planted" if outliers else name)
    low, high = bootstrap(true, found["pairs and gradient"], found["single layers and gradient"])
    say(f"pairs less single layers, 95 %: {low:+.4f} .. {high:+.4f}")
    assert rank(found["pairs and gradient"], true) >= 0.9
    assert high >= 0


@pytest.mark.parametrize("name", NETS)
def test_away_from_a_minimum_the_gradient_counts(name):
    true, found = predictions(study(name, epochs=2), f"{name}, under-trained")
    assert rank(found["pairs and gradient"], true) >= 0.9
    assert rank(found["pairs and gradient"], true) >= rank(found["pairs"], true)


def of_size(s: Study, limit: float, count: int) -> list[tuple[int, ...]]:
    """Assignments that are drawn until so many are within one percent below a size."""
    rng, found = np.random.default_rng(1), []
    while len(found) < count:
        bits = tuple(int(b) for b in rng.choice(s.candidates, len(s.names)))
        if 0.99 * limit <= s.size(bits) <= limit:
            found.append(bits)
    return found


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mean", [5.0, 6.0, 7.0])
def test_what_is_chosen_beats_what_is_drawn(name, mean):
    s, traces, score = study(name), curvature(name), metrics(name)
    limit = mean * s.size([1] * len(s.names))
    drawn = of_size(s, limit, DRAWS)
    order = [traces[n].mean / s.seen.weights[n].numel() for n in s.names]
    sets = {
        "pairs": s.chosen(limit),
        "Hessian trace": s.by_score(score["Hessian trace"], limit),
        "reversed order": s.reversed(score["Hessian trace"], order, limit),
    }
    others = {unseen: np.array([s.increase(b, unseen=unseen) for b in drawn]) for unseen in (False, True)}
    rows = []
    for way, bits in sets.items():
        row: list[object] = [way, "".join(map(str, bits)), s.size(bits) / limit]
        for unseen, known in others.items():
            own = s.increase(bits, unseen=unseen)
            row += [own, f"{np.mean(own < known):.1%}"]
        rows.append(row)
    rows.append(["drawn, median", "", 1.0, *(x for u in others.values() for x in (float(np.median(u)), ""))])
    header = "chosen by | bits | size | loss increase | beats | increase, unseen data | beats"
    show(f"{name}, {mean:g} bits on average", header, rows)
    assert np.mean(s.increase(sets["pairs"]) < others[False]) >= 0.95
    assert s.increase(sets["pairs"]) < s.increase(sets["reversed order"])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("outliers", [False, True], ids=["trained", "outliers"])
def test_metrics_side_by_side(name, outliers):
    s, tables = study(name, outliers=outliers), metrics(name, outliers=outliers)
    drawn = s.drawn(DRAWS)
    true = [s.increase(b) for b in drawn]
    limit = 6.0 * s.size([1] * len(s.names))
    rows, ranks = [], {}
    for metric, table in tables.items():
        predicted = [sum(table[n, b] for n, b in zip(s.names, bits, strict=True)) for bits in drawn]
        ranks[metric] = rank(predicted, true)
        bits = s.by_score(table, limit)
        ratio = float(np.median(np.divide(predicted, true)))
        rows.append([metric, ranks[metric], ratio, "".join(map(str, bits)), s.increase(bits)])
    pairs = s.chosen(limit)
    predicted = [s.predicted(b) for b in drawn]
    ratio = float(np.median(np.divide(predicted, true)))
    rows.append(["pairs and gradient", rank(predicted, true), ratio, "".join(map(str, pairs)), s.increase(pairs)])
    header = "metric | Spearman | predicted / true, median | chosen at 6 bits | loss increase"
    show(f"{name}, outliers planted" if outliers else name, header, rows)
    assert ranks["Hessian trace"] >= ranks["squared change"]


def test_rotated_grids_on_normal_rows_and_on_trained_weights():
    rows = np.random.default_rng(0).standard_normal((64, 4096))
    sets = {"normal": rows, "normal, outliers": rows * np.where(np.arange(4096) % 512, 1.0, 30.0)}
    for name in NETS:
        weight = max((net(name).get_submodule(n).weight for n in layers(net(name))), key=torch.numel)
        sets[f"{name}, largest layer"] = weight.double().flatten(1).numpy()
    table = []
    for name, values in sets.items():
        power = float(np.square(values).mean())

        def error(found: np.ndarray, values: np.ndarray = values, power: float = power) -> float:
            return float(np.square(found - values).mean()) / power

        uniform = [
            *(error(g(min_max(values, 0), 4).quantized(values)) for g in (symmetric, asymmetric)),
            *(error(least_error(values, 4, g, 0).quantized(values)) for g in (symmetric, asymmetric)),
        ]
        own = error(rotated(values, 4).values())
        table.append([name, own, *uniform, own / min(uniform)])
    show(
        f"4 bits by channel, squared error over power (Lloyd-Max: {lloyd_max(4).error:.6f})",
        "rows | rotated | symmetric | asymmetric | symmetric, least error | asymmetric, least error | rotated / best",
        table,
    )
    assert table[0][-1] <= 0.83
