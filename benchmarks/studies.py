"""The archived noise studies beside those of version 0.7.0: the time of their designs, and the width of their intervals."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.released import HERE, VERSION, released
from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analog.noise.results import summary
from pimllm_lib.archive import dataset
from pimllm_lib.studies.noise_plans import cost_of, design_of
from pimllm_lib.studies.noise_runs import KV, NAMES, WIRES


def report():
    """Yield one line for each study; what a chip and a window take is measured once for both designs."""
    with TemporaryDirectory() as place:
        if not released(place):
            yield f"this checkout has no history with version {VERSION}, which is compared with"
            return
        for name in sorted({*NAMES, KV} - {WIRES}):
            both = [dataset.load(root / "data" / "studies" / f"{name}.nc") for root in (HERE, Path(place))]
            specs = [dataset.parameters(ds) for ds in both]
            studies = [noise_study.of(spec) for spec in specs]
            curves = {case.curve: case for case in studies[0].cases}  # what a curve's last case takes, they all take
            costs = {curve: cost_of(studies[0], case) for curve, case in curves.items()}
            taken, before = (
                sum(design_of(study, case).seconds(costs[case.curve], case.drawn) for case in study.cases)
                for study in studies
            )
            new, old = (summary(ds, spec) for ds, spec in zip(both, specs, strict=True))
            wide, base = (at.perplexity_rise_high - at.perplexity_rise_low for at in (new, old.sel(case=new.case)))
            yield (
                f"{name}: {taken / 60:.3g} min, {before / taken:.1f} times as fast as version {VERSION} designed it; "
                f"intervals {float(np.nanmedian(wide / base.where(base > 0))):.2f} times as wide (median)"
            )
