"""What is said of systems of a reader's own on a page that was written about the published two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import ParamSpec

import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis.claims import is_the_catalogs
from pimllm_lib.analysis.uncertainty import SYSTEMS
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import listed
from pimllm_lib.report.text import Sentence, escaped, where
from pimllm_lib.system.metrics import rivals

P = ParamSpec("P")


def called(name: object) -> str:
    """Return the name of a system as prose has it."""
    return str(name).upper() if name in SYSTEMS else escaped(name)


def are_published(ds: xr.Dataset) -> bool:
    """Return whether the systems of a result are the two of the paper, and what the catalog has under their names."""
    return list(ds.system.values) == list(SYSTEMS) and all(is_the_catalogs(ds, name) for name in SYSTEMS)


def of_published(question: str, answer: Callable[P, str]) -> Callable[[Callable[P, Box]], Callable[P, Box]]:
    """Make a box about the published machines give way to another question and answer where a result is of other systems.

    All are called with the same datasets.
    """

    def made(box: Callable[P, Box]) -> Callable[P, Box]:
        @wraps(box)
        def chosen(*asked: P.args, **named: P.kwargs) -> Box:
            results = [one for one in asked if isinstance(one, xr.Dataset) and "system" in one.dims]
            if all(map(are_published, results)):
                return box(*asked, **named)
            return Box(
                question=question,
                answer=answer(*asked, **named),
                sure="Of other systems than the published two nothing was published.",
                decides="What sets them apart.",
                more=written_about(results[0].system.values).strip(),
            )

        return chosen

    return made


def written_about(names: Iterable[object]) -> str:
    """Return what the text around computed sentences is about, where these are about other systems."""
    return (
        f"\n\nWhat is computed on this page is of {listed(map(escaped, names))}; the text in between was written about "
        "TPU-LLM and PIM-LLM as published."
    )


def stand_ins(systems: Sequence[str]) -> Sentence | None:
    """Return which systems the names of the published two stand for on a page, None where these are meant themselves."""
    base, rival = (catalog.system(one) for one in systems)
    if all(one is catalog.systems[name] for name, one in zip(SYSTEMS, (base, rival), strict=True)):
        return None
    return Sentence(
        f"**On this page TPU-LLM stands for {escaped(base.name)}, PIM-LLM for {escaped(rival.name)}**, in figures and "
        "tables too; what is not computed was written about the two as published."
    )


def ends(values: xr.DataArray, form: str = ".3g", unit: str = "") -> str:
    """Return the least and the largest of some values, each with its model and context."""
    least, most = (values.isel(at) for at in (values.argmin(...), values.argmax(...)))
    one = f"{least.item():{form}}{unit} ({where(least)})"
    return one if least.equals(most) else f"{one} to {most.item():{form}}{unit} ({where(most)})"


def against_first(compared: xr.Dataset, variable: str, said: str, *, form: str = ".3g", unit: str = "") -> str:
    """Return for each system but the first how it stands to the first: `said` with {name}, {ends} and {base} filled in."""
    base = escaped(compared.system.values[0])
    told = (
        said.format(name=escaped(name), ends=ends(compared[variable].sel(system=name), form, unit), base=base)
        for name in rivals(compared).system.values
    )
    return "; ".join(told)
