"""Plans of noise studies: variances of the archived result or a pilot, processor time measured now, an allotment."""

from __future__ import annotations

from dataclasses import asdict
from time import process_time
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analog.noise.cases import Case
from pimllm_lib.analog.noise.planning import Cost, Curve, Design, allotted, parts
from pimllm_lib.analog.noise.results import rises
from pimllm_lib.analog.noise.study import BLOCKS
from pimllm_lib.archive import dataset
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import require
from pimllm_lib.studies.noise_runs import computed, unallotted

#: Models, chips and windows of a pilot; windows that are read to measure how long one takes.
PILOT_MODELS, PILOT_CHIPS, PILOT_WINDOWS, TIMED = 3, 2, 32, 4
#: Most windows that a plan gives a study.
MOST = 1 << 14
#: The rise at which a table shows a curve: that case which is nearest.
SHOWN = 0.01


def planned(name: str, spec: dict[str, Any], *, models: int, minutes: float | None, jobs: int) -> dict[str, Any]:
    """Return how models, chips and text of a study are best allotted, see `planning`: a row a curve, and the keys of YAML.

    models: as many as there will be, 0 for those listed; minutes: of one process, None for what the study takes as it is.
    Raises BadInput for a study that is none, of which nothing varies, or that does not fit into the time.
    """
    study = noise_study.of(spec)
    if not any(case.products != "exact" for case in study.cases):
        raise BadInput("curves have exact products alone; wanted some on crossbars, whose rises vary")
    most = min(noise_study.longest(study), MOST)
    require(most >= BLOCKS, "windows of the text", most, f"at least {BLOCKS}, for a plan")
    found, source = _measured(name, spec, study, jobs)
    curves = _curves(study, rises(found, dataset.parameters(found)), found.attrs["windows"])
    drawn = [name for name, curve in curves.items() if any(case.drawn for case in curve.cases)]
    now = float(sum(curve.seconds(curve.design) for curve in curves.values()))
    windows, seconds = range(BLOCKS, most + 1, BLOCKS), now if minutes is None else 60 * minutes
    plan = allotted(curves, models=models or len(study.checkpoints), windows=windows, seconds=seconds, drawn=drawn)
    rows = [_row(name, curve, plan[name]) for name, curve in curves.items()]
    taken = float(sum(curve.seconds(plan[name]) for name, curve in curves.items()))
    return {
        "variances": source, "models": models or len(study.checkpoints), "minutes_now": now / 60, "minutes": taken / 60,
        **_keys(plan, drawn), "rows": rows,
    }  # fmt: skip


def _measured(name: str, spec: dict[str, Any], study: noise_study.Study, jobs: int) -> tuple[xr.Dataset, str]:
    """Return trials of a study's curves, and what they are: archived ones of the same text and of some of the models, else
    a pilot's.
    """
    path = paths.STUDIES / f"{name}.nc"
    if path.is_file():
        archived = dataset.load(path)
        theirs = archived.attrs["text"] == study.text and {*archived.attrs["checkpoints"].split()} & {
            *study.checkpoints
        }
        if theirs and unallotted(dataset.parameters(archived)) == unallotted(spec):
            return archived, "of the archived study"
    given = spec.get("noise") or {}
    listed = given.get("checkpoints", noise_study.KEYS["checkpoints"])[:PILOT_MODELS]
    sizes = {"checkpoints": listed, "windows": PILOT_WINDOWS, "device_seeds": PILOT_CHIPS, "design": "crossed"}
    pilot = {"name": name, "noise": given | sizes, "curves": unallotted(spec)}
    (found,) = computed({name: pilot}, jobs=jobs).values()
    return found, f"of a pilot (models {len(listed)}, chips {PILOT_CHIPS}, windows {PILOT_WINDOWS})"


def _curves(study: noise_study.Study, rise: xr.DataArray, windows: int) -> dict[str, Curve]:
    """Return each curve that varies, with the components of its cases, its seconds and its design in the study."""
    found: dict[str, Curve] = {}
    for curve in dict.fromkeys(case.curve for case in study.cases if case.name in rise.case.values):
        mine = [case for case in study.cases if case.curve == curve and case.name in rise.case.values]
        of = [parts(rise.sel(case=case.name).values, windows / rise.sizes["text_block"], case.drawn) for case in mine]
        found[curve] = Curve(of, cost_of(study, mine[-1]), design_of(study, mine[-1]))
    return found


def design_of(study: noise_study.Study, case: Case) -> Design:
    """Return what a case has as the study stands."""
    blocks = min(BLOCKS, study.windows)
    reading = study.reading(case, blocks)
    read = len({place for places in reading for place in places})
    nested = study.design == "nested"
    return Design(len(study.checkpoints), len(reading), study.windows * read // blocks, read, nested)


def cost_of(study: noise_study.Study, case: Case) -> Cost:
    """Return the seconds that a case takes on this machine, in one process, from one window and a few."""
    taken, read = [], noise_study.reader(study, case)
    for count in (1, 1 + TIMED):
        start = process_time()
        read(count)
        taken.append(process_time() - start)
    window = max((taken[1] - taken[0]) / TIMED, 1e-6)
    return Cost(max(taken[0] - window, 0.0), window)


def _row(name: str, curve: Curve, design: Design) -> dict[str, Any]:
    """Return what a curve is allotted, with the components of the case whose rise is nearest to `SHOWN`.

    sd_*: standard deviations of a model, a chip, and a window of text by itself, with the model, and left, in % of the rise.
    """
    shown = min(curve.cases, key=lambda case: abs(np.log(max(np.expm1(case.rise), 1e-9) / SHOWN)))
    of = {key: value for key, value in asdict(shown).items() if key not in ("rise", "drawn")}
    sizes = {
        f"sd_{key}": _digits(100 * value**0.5 / abs(shown.rise)) if shown.rise else 0.0 for key, value in of.items()
    }
    halves = [100 * float(each.half(shown)) * np.exp(shown.rise) for each in (curve.design, design)]
    return {
        "curve": name, "rise_percent": _digits(100 * float(np.expm1(shown.rise))), **sizes,
        "chips_now": curve.design.chips if shown.drawn else 1, "windows_now": curve.design.windows,
        "half_now": _digits(halves[0]), "chips": design.chips, "windows": design.windows, "half": _digits(halves[1]),
        "minutes": _digits(float(curve.seconds(design)) / 60),
    }  # fmt: skip


def _digits(number: float) -> float:
    return float(f"{number:.3g}")


def _keys(plan: dict[str, Design], drawn: list[str]) -> dict[str, Any]:
    """Return what stands under `noise` for a plan, and what curves have less."""
    windows = next(iter(plan.values())).windows * BLOCKS // next(iter(plan.values())).blocks
    chips = max([plan[name].chips for name in drawn], default=1)
    less: dict[str, dict[str, int]] = {}
    for name, design in plan.items():
        own = {"windows": design.windows} if design.windows < windows else {}
        own |= {"device_seeds": design.chips} if name in drawn and design.chips < chips else {}
        less |= {name: own} if own else {}
    return {"noise": {"design": "nested", "windows": windows, "device_seeds": chips}, "curves": less}
