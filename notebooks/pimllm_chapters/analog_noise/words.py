"""Chapter 11, how much noise a crossbar may have: its tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analog.noise.law import families
from pimllm_lib.analog.noise.results import means, rises
from pimllm_lib.analog.noise.study import KEYS
from pimllm_lib.analog.noise.thresholds import LEVELS
from pimllm_lib.archive import dataset
from pimllm_lib.hardware import Devices
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import listed, number, percent, rounded, span
from pimllm_lib.report.tables import Table, crossed, one_line
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.studies.noise_runs import agreement

#: What the names of curves of converters start with.
_CONVERTERS = ("worst case", "4 sigma", "unit step")
#: As it stands in the names of curves.
_TWOS = "two's complement"


def setting(ds: xr.Dataset, curve: str, level: float, scale: float = 1.0, unit: str = "") -> str:
    """Return a threshold with its interval, in words where it is beyond what was tried."""
    at = ds.sel(curve_name=curve, level=level)
    middle, *ends = (scale * float(at[name]) for name in ("threshold", "threshold_low", "threshold_high"))
    least, most = scale * float(at.least_setting), scale * float(at.most_setting)
    if np.isinf(middle):
        return f"above {rounded(most)}{unit}"
    if middle == 0:
        return f"{'at most' if curve.startswith(_CONVERTERS) else 'below'} {rounded(least)}{unit}"
    beyond = {0.0: f"below {rounded(least)}", np.inf: f"above {rounded(most)}"}
    low, high = (beyond.get(end) or rounded(end) for end in ends)
    return f"between {low} and {high}{unit}" if np.isnan(middle) else f"{rounded(middle)}{unit} ({low} to {high})"


#: Curve of the table below the box -> how it is called there, and what its settings are scaled by and end with.
_FIRST = {
    "variation": ("conductances vary by", 100, " %"), "stuck on": ("cells stuck on", 100, " %"),
    "stuck off": ("cells stuck off", 100, " %"), "4 sigma, sign-magnitude": ("bits over a range set from data", 1, ""),
    "worst case, sign-magnitude": ("bits over the range of all rows", 1, ""),
    f"worst case, {_TWOS}": ("the same in two's complement", 1, ""),
}  # fmt: skip


def box(ds: xr.Dataset) -> Box:
    """Return the box of the page, and below it what each departure may be by itself."""
    rows = [
        {"by itself": said}
        | {f"perplexity rises {100 * level:g} % at": setting(ds, curve, level, scale, unit) for level in LEVELS}
        for curve, (said, scale, unit) in _FIRST.items()
    ]
    alone = {curve: setting(ds, curve, LEVELS[0], *how[1:]).split(" (")[0] for curve, how in _FIRST.items()}
    trained = int(ds.trials.sel(case="no crossbars"))  # of a case without chips to draw: its models
    what = "of 3 million weights, trained here" if shipped(ds) else "on this text"
    return Box(
        question="How far may cells and converters depart from ideal ones?",
        answer=f"Conductances may vary by {alone['variation']} before a model's perplexity rises by 1 %.",
        sure=f"Models: {trained}, {what}; brackets in the table are 95 % intervals.",
        decides=f"For converters the range: {alone['4 sigma, sign-magnitude']} bits where it is set from data, "
        f"{alone['worst case, sign-magnitude']} where it holds all rows.",
        more=one_line(Table(rows, title="What each departure may be by itself")),
    )


def shipped(ds: xr.Dataset) -> bool:
    """Return whether a study is of the models and the text of the archived ones."""
    known = " ".join(KEYS["checkpoints"]), KEYS["text"]
    return (ds.attrs["checkpoints"], ds.attrs["text"]) == known


#: Catalog name -> what it is.
DEVICES = {
    "cells-mnsim": "MNSIM's assumption", "cells-wan-1s": "RRAM after 1 s", "cells-wan-1d": "RRAM after 1 day",
    "cells-wan-2d": "RRAM after 2 days", "cells-milo": "RRAM, verified", "cells-pcm": "PCM after 1 day",
}  # fmt: skip
#: Curves of published devices -> how they are read.
READINGS = {
    "ideal conversion": "ideal conversion", "ideal conversion, on/off 4.5": "ideal conversion",
    "8 bits, one pass": "8 bits over 4 sigma, one pass", "8 bits, one pass, on/off 4.5": "8 bits over 4 sigma, one pass",
    "8 bits, plane by plane": "8 bits over 4 sigma, sign-magnitude",
    "as published, worst case": "8 bits over all rows, two's complement",
}  # fmt: skip


def rise(at: xr.Dataset) -> str:
    """Return a rise of the perplexity with its interval."""
    middle, low, high = (at[f"perplexity_rise{end}"].item() for end in ("", "_low", "_high"))
    return f"{percent(middle)} ({percent(low, '')} to {percent(high, '')})"


def band(at: xr.Dataset, name: str = "perplexity_rise") -> str:
    """Return a rise with its interval, in %."""
    middle, low, high = (100 * float(at[each]) for each in (name, f"{name}_low", f"{name}_high"))
    digits = 1 if abs(middle) >= 10 else 2
    return f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def tried(found: Mapping[str, xr.Dataset]) -> Sentence:
    """Return how many models, chips and windows the studies have, at least and at most."""
    sizes = {
        "models": [ds.sizes["training_seed"] for ds in found.values()],
        "chips where chips differ": [ds.sizes["device_seed"] for ds in found.values() if ds.sizes["device_seed"] > 1],
        "windows of text": [int(ds.attrs["windows"]) for ds in found.values()],
    }
    told = (f"{what}: {span(np.array(counts), '.0f')}" for what, counts in sizes.items() if counts)
    own = sum(dataset.parameters(ds)["noise"].get("design") == "nested" for ds in found.values())
    how = {0: "every chip reads all of the text", len(found): "each chip reads text of its own"}
    return Sentence(
        f"What the studies have, of {'; '.join(told)}; {how.get(own, 'some chips read text of their own')}."
    )


def baseline(ds: xr.Dataset) -> Sentence:
    """Return how well the models read with exact products, and with crossbars that give nothing."""
    nothing = ds.sel(case="no crossbars")
    zero = float(nothing.noisy_perplexity)
    clean, token = zero / (1 + float(nothing.perplexity_rise)), "byte" if shipped(ds) else "token"
    return Sentence(
        f"With exact products the perplexity of a {token} is {clean:.3f} ({np.log2(clean):.3f} bits), with crossbars "
        f"that give nothing {zero:.0f} ({np.log2(zero):.2f} bits): all that the models know passes through the "
        "crossbars."
    )


def thresholds(ds: xr.Dataset) -> Table:
    """Return each curve's thresholds with their intervals, and the trials behind its points."""
    rows = []
    for curve in map(str, ds.curve_name.values):
        at, mine = ds.sel(curve_name=curve), ds.sel(case=ds.curve == curve)
        row = {"departure": curve}
        for level in LEVELS:
            row[f"{100 * level:g} % at"] = setting(ds, curve, level)
        tried = f"{number(float(at.least_setting))} to {number(float(at.most_setting))}"
        rows.append(row | {"tried": tried, "trials a point": f"{float(mine.trials.max()):.0f}"})
    return Table(rows, long=True, title="Thresholds of each departure, with 95 % intervals")


def word_lines(ds: xr.Dataset) -> Sentence:
    """Return what the limits of wires become where word lines have a resistance too."""
    curves = [f"wire, word lines, {place}" for place in ("apart", "side by side")]
    if not set(curves) <= set(ds.curve_name.values):
        return Sentence("The limits of wires are those of bit lines alone, hence upper bounds; word lines lower them.")
    told = [" and ".join(setting(ds, curve, level) for level in LEVELS) for curve in ("wire", *curves)]
    noise = ds.noise_to_signal.mean("matrix")
    more = []
    for curve in curves:
        both = noise.sel(case=ds.curve == curve), noise.sel(case=ds.curve == "wire")
        mine, alone = (part.swap_dims(case="value") for part in both)
        common = np.intersect1d(mine.value, alone.value)
        more.append(span(mine.sel(value=common) / alone.sel(value=common), ".1f"))
    levels, models = listed(100 * np.array(LEVELS), "g"), int(ds.trials.sel(case=ds.curve == curves[0]).max())
    return Sentence(
        f"The limits of wires with bit lines alone, {told[0]} ohm for {levels} %, are upper bounds. With word lines of the "
        f"same resistance they are {told[1]} ohm where the cells of a pair lie in arrays apart, as areas of the published "
        f"tile count them, and {told[2]} ohm where they lie side by side on the same word lines (models tried: {models}). "
        f"Noise over signal is {more[0]} times and {more[1]} times that of bit lines alone, at resistances tried with both."
    )


def read_late() -> Sentence:
    """Return what 1/f noise of phase-change cells is when they are read, and what the archived trials have."""
    late = catalog.part("cells-pcm", Devices)
    at = {days: replace(late, drift_time=1 + days * 86400 / 20).reading for days in (0, 1, 365)}
    day, year = (f"{100 * at[days]:.2f} %" for days in (1, 365))
    return Sentence(
        "The noise of reading a phase-change cell grows with the time since it was written: of its current "
        f"{100 * at[0]:.2f} % at the 20 s where drift starts, {day} after a day, {year} after a year. The archived trials "
        "of PCM have the drift of a day and the noise of 20 s; where an input is one pulse the other adds at most "
        f"{at[1] ** 2 - at[0] ** 2:.1g} to noise over signal."
    )


def points(ds: xr.Dataset) -> Table:
    """Return the published converter with ideal cells, and the published devices, a row each."""
    curves = [str(curve) for curve in ds.curve_name.values if str(curve).startswith(_CONVERTERS)]
    alone = [(curve, ds.sel(case=(ds.curve == curve) & (ds.value == 8))) for curve in curves]
    told = [("ideal", f"8 bits, {curve}", at.isel(case=0)) for curve, at in alone if at.case.size]
    for case in ds.case.values[np.isin(ds.curve.values, list(READINGS))]:
        at = ds.sel(case=case)
        name = str(at.setting.item()) or "cells-mnsim"
        told.append((DEVICES.get(name, name), READINGS[str(at.curve.item())], at))
    rows = (
        {"cells": cells, "reading": reading, "rise (%)": band(at), "trials": f"{float(at.trials):.0f}"}
        for cells, reading, at in told
    )  # fmt: skip
    return Table(rows, long=True, title="The published converter with ideal cells, and the published devices")


def matrices(ds: xr.Dataset) -> Table:
    """Return what a variation in one layer, or one kind of matrix, does alone."""
    rows = []
    for case in ds.case.values[np.isin(ds.curve.values, ("layer", "kind"))]:
        at = ds.sel(case=case)
        touched = at.noise_to_signal.values[at.noise_to_signal.values > 0]
        kind = str(at.curve.item()) == "kind"
        rows.append({
            "on crossbars alone": f"{at.curve.item()} {at.setting.item()}", "matrices": len(touched), "rise (%)": band(at),
            "noise over signal": f"{touched.mean():.3f}" if touched.size else "",
            "kappa": f"{float(ds.kind_kappa.sel(kind=str(at.setting.item()))):.2f}" if kind else "",
        })  # fmt: skip
    return Table(rows, title="A variation in one layer, or in one kind of matrix, alone")


def additivity(found: Mapping[str, xr.Dataset]) -> Sentence:
    """Return whether single layers and single kinds add up to the whole, on the same chips and text."""
    studies = (found[name] for name in ("noise-matrices", "noise-cells"))
    alone, together = (rises(study, dataset.parameters(study)) for study in studies)
    chips = slice(0, alone.sizes["device_seed"])
    whole = float(means(together.sel(case="variation 0.4").isel(device_seed=chips)))
    sums = [float(means(alone.sel(case=alone.curve == curve)).sum("case")) for curve in ("layer", "kind")]
    return Sentence(
        f"Layers by themselves add up to {100 * sums[0] / whole:.0f} % of the rise that all of them have together on "
        f"the same chips, kinds of matrix to {100 * sums[1] / whole:.0f} %."
    )


def remedies(ds: xr.Dataset) -> Table:
    """Return each remedy beside its control: the change of the perplexity, paired, with its interval, and the cost."""
    rows = []
    for place in range(ds.comparison.size):
        at = ds.isel(comparison=place)
        low, high = (float(at[f"remedy_effect_{end}"]) for end in ("low", "high"))
        verdict = "helps" if high < 0 else "harms" if low > 0 else f"none above {percent(max(-low, high))}"
        case, _, control = str(at.comparison.item()).partition(" against ")
        rows.append({"remedy": str(at.remedy.item()), "case": case, "control": control,
                     "perplexity (%)": band(at, "remedy_effect"), "effect": verdict,
                     "cost": str(at.cost.item())})  # fmt: skip
    return Table(rows, long=True, title="Each remedy beside its control")


def sameness(ds: xr.Dataset) -> Sentence:
    """Return what the off resistance of ideal cells does, and the smallest effect that would have been seen."""
    cases, near = ds.sel(case=ds.curve == "off resistance, ideal cells"), ds.sel(case="variation 0.1")
    most = float(abs(cases.perplexity_rise).max())
    width = float(near.perplexity_rise_high - near.perplexity_rise_low) / 2
    return Sentence(
        "Currents of off-cells cancel in a pair by construction: down to an on/off ratio of 2 the perplexity of "
        f"otherwise ideal cells changes by {100 * most:.1g} %. Where chips differ, at a variation of 0.1, an effect "
        f"below {100 * width:.2g} % would not be seen."
    )


def failures(ds: xr.Dataset) -> Sentence:
    """Return how cells and converters fail, and where: smoothly, or from one bit to the next."""
    curve = ds.sel(case=(ds.curve == "variation") & (ds.perplexity_rise > 0))
    planes = ds.sel(case=(ds.curve == "4 sigma, sign-magnitude") & (ds.perplexity_rise > 0)).sortby("value")
    if min(curve.case.size, planes.case.size) < 3:
        return Sentence("Too few rises above 0 to say how steep they are.")
    slope = float(np.polyfit(np.log(curve.value), np.log(np.log1p(curve.perplexity_rise)), 1)[0])
    steps = np.log1p(planes.perplexity_rise.values)
    return Sentence(
        f"The rise grows with the power {slope:.1f} of the variation, from 1 % at "
        f"{setting(ds, 'variation', LEVELS[0])} to 10 % at {setting(ds, 'variation', LEVELS[1])}. Converters over a "
        f"range set from data fail as smoothly: from {setting(ds, '4 sigma, sign-magnitude', LEVELS[0])} bits down, "
        f"each bit fewer multiplies the rise by {float((steps[0] / steps[2]) ** 0.5):.1f}. Over a fixed range they fail "
        "at an edge, where the step becomes coarser than one cell or the largest sums no longer fit: "
        f"{_edge(ds, 'worst case, sign-magnitude')}, {_edge(ds, 'unit step, ' + _TWOS)}."
    )


def _edge(ds: xr.Dataset, curve: str) -> str:
    """Return the two neighbouring resolutions of a curve between which the rise changes most."""
    at = ds.sel(case=ds.curve == curve).sortby("value")
    place = int(np.argmax(np.diff(-np.log(np.maximum(at.perplexity_rise.values, 1e-3)))))
    one, other = at.isel(case=place), at.isel(case=place + 1)
    return (
        f"{percent(float(one.perplexity_rise))} at {float(one.value):.0f} bits and "
        f"{percent(float(other.perplexity_rise))} at {float(other.value):.0f} ({curve})"
    )


def vanishing(ds: xr.Dataset) -> Sentence:
    """Return where the noise of a coarse step sits: in the projection whose inputs are sparse."""
    down = np.array([str(name).endswith(".down") for name in ds.matrix.values])
    found = {}
    for curve in ("sign-magnitude", _TWOS):
        at = ds.sel(case=(ds.curve == f"worst case, {curve}") & (ds.value == 8)).isel(case=0)
        ratios = [float(at.noise_to_signal.values[mine].mean()) for mine in (down, ~down)]
        found[curve] = (*ratios, float(at.perplexity_rise))
    told = [f"{a:.2g} there, {b:.2g} elsewhere, the rise {percent(c)} with {name}" for name, (a, b, c) in found.items()]
    odd = found["sign-magnitude"][0] < found[_TWOS][0] and found["sign-magnitude"][2] > found[_TWOS][2]
    lost = " The first loses the signal itself, the second adds what looks like noise: the smaller error harms more."
    return Sentence(
        "With 8 bits over all rows a step is two on-cells, and a sum of one cell reads as nothing, ties going to "
        f"even. Sums are that small behind the squared ReLU, in the down projection: noise over signal is {told[0]}, "
        f"{told[1]}.{lost * odd}{_dithered(ds)}"
    )


def _dithered(ds: xr.Dataset) -> str:
    """Return, where it is so, that noisy cells fare better with the coarse converter than ideal ones."""
    noisy = ds.sel(case=ds.curve == "as published, worst case")
    ideal = ds.sel(case=(ds.curve == f"worst case, {_TWOS}") & (ds.value == 8))
    if not noisy.case.size or float(noisy.perplexity_rise_high.max()) >= float(ideal.perplexity_rise_low.min()):
        return ""
    return (
        " With MNSIM's noisy cells two's complement loses less than with ideal ones, "
        f"{percent(float(noisy.perplexity_rise[0]))}: scatter keeps sums from being rounded all alike, as dither does."
    )


def law_found(ds: xr.Dataset) -> Sentence:
    """Return kappa and what the families of departures make of it."""
    found = families(ds)
    cells, bits = found["cells that vary or are stuck"], found["converters"]
    low, high = (float(ds[f"kappa_{end}"]) for end in ("low", "high"))
    return Sentence(
        f"Kappa is {float(ds.kappa):.2f} ({low:.2f} to {high:.2f}), from the variation. Other cells that vary or are stuck "
        f"have {cells.min():.2f} to {cells.max():.2f}, converters {bits.min():.2f} to {bits.max():.0f}."
    )


def kappas(ds: xr.Dataset) -> Table:
    """Return rise over noise to signal of each family: cases, least, median and greatest."""
    rows = []
    for family, found in families(ds).items():
        if len(found):
            told = [f"{value:.2f}" for value in np.quantile(found, (0, 0.5, 1))]
            row = {"departures": family, "cases": len(found)}
            rows.append(row | dict(zip(("least", "median", "greatest"), told, strict=True)))
    return Table(rows, title="Rise of the loss over noise to signal, by family")


def wide(ds: xr.Dataset) -> Table:
    """Return noise over signal in random matrices of each shape."""
    found = ds.wide_noise_to_signal.transpose("shape", "departure")
    return crossed(
        found, "{:.2g}".format, "{}", "inputs x outputs", title="Noise over signal in random matrices of each shape"
    )


def widths(ds: xr.Dataset) -> Sentence:
    """Return what the width of a matrix does to noise over signal, departure by departure."""
    first, last = ds.wide_noise_to_signal.isel(shape=0), ds.wide_noise_to_signal.isel(shape=-1)
    parts = [f"{float(value):.2g} for {name}" for name, value in zip(ds.departure.values, last / first, strict=True)]
    return Sentence(
        f"From {ds['shape'].values[0]} to {ds['shape'].values[-1]} noise over signal changes by factors of "
        f"{', '.join(parts)}."
    )


def checked(ds: xr.Dataset, found: Mapping[str, xr.Dataset], archived: bool) -> Sentence:
    """Return how far trials computed again are from the archived ones or, of a smaller study, how many cases agree.

    archived: whether the studies are the archived ones.
    """
    if "again" in ds.dims:
        apart, names = abs(ds.recomputed_loss / ds.archived_loss - 1), ", ".join(map(escaped, ds.again.values))
        return Sentence(
            f"Computed again on this page, for the first chip of the first model: {names}. The losses are within "
            f"{float(apart.max()):.1e} of the archived ones."
        )
    if archived:
        return Sentence(
            "All losses here are archived. `pimllm verify --heavy` computes a trial of each study again, and this notebook "
            "those of the cases that `again` names."
        )
    if not shipped(ds):
        return Sentence("Another text or other models: no archived study to compare with.")
    agree, count = agreement(found)
    return Sentence(f"In {agree} of {count} cases the interval of this study overlaps with that of the archived one.")


_ABSTRACT = "abstract, read at its source"


def _rule(ds: xr.Dataset) -> str:
    worst, sigma = (setting(ds, f"{name}, sign-magnitude", LEVELS[0]) for name in ("worst case", "4 sigma"))
    return (
        f"Over a range of all rows a rise below 1 % takes {worst} bits, over a range set from data {sigma}. The rule "
        "is for converters that lose no sum at all."
    )


def _faults(ds: xr.Dataset) -> str:
    off, on = (percent(float(ds.perplexity_rise.sel(case=f"stuck {kind} 0.1"))) for kind in ("off", "on"))
    return (
        f"Faults raise it here too: by {off} with 10 % of the cells stuck off, {on} with as many stuck on. No closer "
        "comparison: other models, hundreds of times larger, another text, and rates of which the abstract says nothing."
    )


def _inputs(ds: xr.Dataset) -> str:
    found = families(ds)
    cells, outputs = (np.median(found[name]) for name in ("cells that vary or are stuck", "noise of reads and outputs"))
    return (
        f"At equal noise over signal, the loss rises {float(np.median(found['converters'])) / cells:.1f} times as "
        f"much by converters as by cells that vary or are stuck, and {outputs / cells:.1f} times by noise of reads "
        "and outputs (medians). Agrees on quantisation; noise of inputs and rescaling were not tried."
    )


def _training(ds: xr.Dataset) -> str:
    at = ds.remedy_effect
    names = {case: f"{case} noise against {case} control" for case in ("variation 0.6", "exact")}
    if not set(names.values()) <= set(map(str, at.comparison.values)):
        return "Not computed for these models."
    strong, clean = (percent(float(at.sel(comparison=name))) for name in names.values())
    return (
        f"Noise in training changes the perplexity by {strong} at a variation of 0.6 and by {clean} without noise, "
        "against a control of as many steps. Theirs is a long training with quantised inputs and outputs as well; "
        "ours a short one."
    )


#: Work, what it found, how much of it was seen, and what this study has to say of it, from its numbers.
FINDINGS: tuple[tuple[str, str, str, Callable[[xr.Dataset], str]], ...] = (
    ("ISAAC, isaac2016", "rows, cell bits and input bits set the resolution: 9 bits for 256 rows, 1-bit cells and inputs, "
     "8 with its encoding", "second hand", _rule),
    ("ReTern, retern2025", "stuck-at faults raise the perplexity of ternary models of 700M and 3B weights; its remedies "
     "lower it by up to 35 %", _ABSTRACT, _faults),
    ("NORA, nora2025", "language models stand noise of weights and are very sensitive to quantisation and additive noise; "
     "rescaling brings the loss below 1 %", _ABSTRACT, _inputs),
    ("Rasch et al., rasch2023", "noise of inputs and outputs, not of weights, has the largest impact", _ABSTRACT, _inputs),
    ("Analog foundation models, analogfoundation2025", "trained with noise and static ranges, models keep what 4-bit "
     "weights and 8-bit activations have", _ABSTRACT, _training),
    ("Wu et al., memristorreasoning2026", "reasoning falls markedly, and differently from task to task", _ABSTRACT,
     lambda _: "Not tried here: a perplexity says little of it. Tolerance is a property of model and task."),
)  # fmt: skip


def placing(ds: xr.Dataset) -> Table:
    """Return other works' findings, how much of each was seen, and what the numbers here say of it."""
    rows = ({"work": work, "finds": says, "seen": seen, "here": here(ds)} for work, says, seen, here in FINDINGS)
    return Table(rows, long=True, title="Other works' findings, and what the numbers here say of them")
