"""Chapter 11, how much noise a crossbar may have: its box and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from pimllm_chapters.analog_noise.tables import TWOS, setting
from pimllm_lib import catalog
from pimllm_lib.analog.noise.cases import cases
from pimllm_lib.analog.noise.law import families
from pimllm_lib.analog.noise.results import rises
from pimllm_lib.analog.noise.study import KEYS
from pimllm_lib.analog.noise.thresholds import LEVELS
from pimllm_lib.archive import dataset
from pimllm_lib.hardware import Devices
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import listed, percent, span
from pimllm_lib.report.tables import Table, one_line
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.studies.noise_runs import agreement

#: Curve of the table below the box -> how it is called there, and what its settings are scaled by and end with.
_FIRST = {
    "variation": ("conductances vary by", 100, " %"), "stuck on": ("cells stuck on", 100, " %"),
    "stuck off": ("cells stuck off", 100, " %"), "4 sigma, sign-magnitude": ("bits over a range set from data", 1, ""),
    "worst case, sign-magnitude": ("bits over the range of all rows", 1, ""),
    f"worst case, {TWOS}": ("the same in two's complement", 1, ""),
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


def tried(found: Mapping[str, xr.Dataset]) -> Sentence:
    """Return how many models, chips and windows the cases of the studies have, at least and at most."""
    given = [dataset.parameters(ds) for ds in found.values()]
    of = [(case, spec["noise"], int(ds.attrs["windows"]))
          for ds, spec in zip(found.values(), given, strict=True) for case in cases(spec["curves"])]  # fmt: skip
    sizes = {
        "models": [ds.sizes["training_seed"] for ds in found.values()],
        "chips where chips differ": [case.device_seeds or noise["device_seeds"] for case, noise, _ in of if case.drawn],
        "windows of text": [case.windows or windows for case, _, windows in of],
    }
    told = (f"{what}: {span(np.array(counts), '.0f')}" for what, counts in sizes.items() if counts)
    own = sum(spec["noise"].get("design") == "nested" for spec in given)
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


def additivity(found: Mapping[str, xr.Dataset]) -> Sentence:
    """Return whether single layers and single kinds add up to the whole, over all models and in each."""
    alone, together = (_of_models(found[name]) for name in ("noise-matrices", "noise-cells"))
    whole = together.sel(case="variation 0.4")
    sums = [alone.sel(case=alone.curve == curve).sum("case") for curve in ("layer", "kind")]
    shares = [f"{100 * float(one.mean() / whole.mean()):.0f} % ({span(100 * one / whole, '.0f')})" for one in sums]
    return Sentence(
        f"Layers by themselves add up to {shares[0]} of the rise that all of them have together, kinds of matrix to "
        f"{shares[1]}; in brackets the least and the most of the models."
    )


def _of_models(ds: xr.Dataset) -> xr.DataArray:
    return rises(ds, dataset.parameters(ds)).mean("device_seed").mean("text_block")


def sameness(ds: xr.Dataset) -> Sentence:
    """Return what the off resistance of ideal cells does, and the smallest effect that would have been seen."""
    cases, near = ds.sel(case=ds.curve == "off resistance, ideal cells"), ds.sel(case="variation 0.1")
    most = _told(abs(cases.perplexity_rise).max())
    width = float(near.perplexity_rise_high - near.perplexity_rise_low) / 2
    return Sentence(
        "Currents of off-cells cancel in a pair by construction: down to an on/off ratio of 2 the perplexity of "
        f"otherwise ideal cells changes by {most}. Where chips differ, at a variation of 0.1, an effect "
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
    most = setting(ds, "4 sigma, sign-magnitude", LEVELS[0]).split(" (")[0]
    return Sentence(
        f"The rise grows with the power {slope:.1f} of the variation, from 1 % at "
        f"{setting(ds, 'variation', LEVELS[0])} to 10 % at {setting(ds, 'variation', LEVELS[1])}. Converters over a "
        f"range set from data fail as smoothly: from {most} bits down, "
        f"each bit fewer multiplies the rise by {float((steps[0] / steps[2]) ** 0.5):.1f}. Over a fixed range they fail "
        "at an edge, where the step becomes coarser than one cell or the largest sums no longer fit: "
        f"{_edge(ds, 'worst case, sign-magnitude')}, {_edge(ds, 'unit step, ' + TWOS)}."
    )


def _edge(ds: xr.Dataset, curve: str) -> str:
    """Return the two neighbouring resolutions of a curve between which the rise changes most."""
    at = ds.sel(case=ds.curve == curve).sortby("value")
    place = int(np.argmax(np.diff(-np.log(np.maximum(at.perplexity_rise.values, 1e-3)))))
    (one, bits), (other, more) = ((_told(at.perplexity_rise[i]), at.value[i].item()) for i in (place, place + 1))
    return f"{one} at {bits:.0f} bits and {other} at {more:.0f} ({curve})"


def _told(rise: xr.DataArray) -> str:
    """Return a rise in %, 0 where it is no more than rounding."""
    return percent(round(float(rise), 8) + 0.0)


def vanishing(ds: xr.Dataset) -> Sentence:
    """Return where the noise of a coarse step sits: in the projection whose inputs are sparse."""
    down = np.array([str(name).endswith(".down") for name in ds.matrix.values])
    found = {}
    for curve in ("sign-magnitude", TWOS):
        at = ds.sel(case=(ds.curve == f"worst case, {curve}") & (ds.value == 8)).isel(case=0)
        ratios = [float(at.noise_to_signal.values[mine].mean()) for mine in (down, ~down)]
        found[curve] = (*ratios, float(at.perplexity_rise))
    told = [f"{a:.2g} there, {b:.2g} elsewhere, the rise {percent(c)} with {name}" for name, (a, b, c) in found.items()]
    odd = found["sign-magnitude"][0] < found[TWOS][0] and found["sign-magnitude"][2] > found[TWOS][2]
    lost = " The first loses the signal itself, the second adds what looks like noise: the smaller error harms more."
    return Sentence(
        "With 8 bits over all rows a step is two on-cells, and a sum of one cell reads as nothing, ties going to "
        f"even. Sums are that small behind the squared ReLU, in the down projection: noise over signal is {told[0]}, "
        f"{told[1]}.{lost * odd}{_dithered(ds)}"
    )


def _dithered(ds: xr.Dataset) -> str:
    """Return, where it is so, that noisy cells fare better with the coarse converter than ideal ones."""
    noisy = ds.sel(case=ds.curve == "as published, worst case")
    ideal = ds.sel(case=(ds.curve == f"worst case, {TWOS}") & (ds.value == 8))
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
