"""How to cite a dataset or one number of it, by content: version, SHA-256, and the identifier of the source."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from pimllm_lib.analysis import claims
from pimllm_lib.archive import agreement, attested, dataset, manifest, provenance, swhid, versions
from pimllm_lib.archive.describe import listed
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip, one_line, unknown
from pimllm_lib.system import metrics

AUTHORS = "The pimllm contributors"
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(text: str) -> str:
    """Return text on one line, as LaTeX prints it."""
    return one_line(text).translate(_LATEX)


@dataclass(frozen=True)
class Citation:
    """A dataset, or one cell of it, as text and as BibTeX. `fields` has the parts."""

    fields: dict[str, Any]

    @property
    def text(self) -> str:
        """One sentence for a reference list."""
        f = self.fields
        cell = f" {f['cell']}." if "cell" in f else ""
        when = f["year"] or "unreleased"
        return f"{AUTHORS}. {f['title']}. Dataset {f['result']}, pimllm {f['version']}, {when}.{cell} {self._note}."

    @property
    def bibtex(self) -> str:
        """An entry for a bibliography."""
        f = self.fields
        note = f"{f['cell']}; {self._note}" if "cell" in f else self._note
        entry = {
            "author": f"{{{AUTHORS}}}", "title": f"{{{_latex(f['title'])}}}", "year": f["year"],
            "howpublished": _latex(f"Dataset {f['result']}, pimllm {f['version']}"),
            "note": _latex(note),
        }  # fmt: skip
        entry["note"] = entry["note"].replace("; ", ";\n    ")
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in entry.items() if value)
        return f"@misc{{pimllm-{f['result']}-{f['version']},\n{lines}}}"

    @property
    def _note(self) -> str:
        f = self.fields
        elsewhere = "; not given again by the sources at hand" if f["notebook"] else ""
        source = f"; source {f['swhid']}" if f["swhid"] else elsewhere
        own = "" if f["released"] else f"; not in a released archive; made with {f['parameters']}"
        return f"sha256 {f['sha256']}; {f['made']}{source}{own}"


def cite(folder: Path, what: str) -> Citation:
    """Return the citation of `RESULT`, `RESULT::variable` or `RESULT::variable::dim=label,dim=label` in an archive.

    Extensive variables are summed over products and parts that are not named. Raises BadInput for an unknown name, for
    coordinates that leave more than one number, and for a file that is not as the manifest says.
    """
    name, variable, coords = (*what.split("::", 2), "", "")[:3]
    if coords and not variable:
        raise BadInput(f"{clip(what)} has coordinates and no variable; wanted RESULT::variable::dim=label")
    path = manifest.chosen(manifest.names(folder), [name])[name]
    is_archive = (folder / manifest.NAME).is_file()
    if is_archive and not manifest.intact(folder, path.relative_to(folder).as_posix()):
        raise BadInput(f"{path} is not the file that the manifest names; 'pimllm verify' says more")
    content = files.read(path)
    sha256 = files.hash_of(content)
    ds = dataset.decode(content, path)
    record = dataset.record(ds, path)
    release = versions.first_with(sha256)
    now = provenance.sources_here(name, record)
    here = now is not None and attested.holds(folder, path, now)
    parameters = "; ".join(f"{name} = {listed(value, ' ')}" for name, value in record["parameters"].items())
    fields = {
        "result": name, "title": str(ds.attrs.get("title", name)), "version": record["pimllm"],
        "year": release.date.year if release else None, "released": release is not None,
        "sha256": sha256, "source_hash": record["source_hash"], "notebook": now is not None,
        "made": attested.told(record, sha256, now, folder),
        "swhid": swhid.library() if here else None,
        "dataset_swhid": swhid.content(content),
        "parameters": f"{path.stem}.yaml" if manifest.is_study(folder, path) else parameters,
    }  # fmt: skip
    return Citation(fields | (cell(ds, variable, coords) if variable else {}))


def cell(ds: xr.Dataset, variable: str, coords: str) -> dict[str, Any]:
    """Return one number of a dataset: `value`, `unit`, and `cell`, a text with where it stands.

    A figure of merit, such as tokens_per_s or speedup, is computed from the variables that are there.
    """
    if variable not in ds.data_vars:
        ds = _with_merits(ds)
    if variable not in ds.data_vars or ds[variable].dtype.kind not in "fiu":
        numbers = (str(name) for name in ds.data_vars if ds[name].dtype.kind in "fiu")
        raise unknown("variable", variable, numbers)
    array, where = ds[variable], []
    for pair in re.split(r",(?=\s*\w+\s*=)", coords) if coords else []:
        dim, equals, label = (text.strip() for text in pair.partition("="))
        if not equals:
            raise BadInput(f"the coordinate {clip(pair)} has no '='; wanted dim=label, like context_len=128")
        if dim not in array.dims:
            raise unknown(f"dimension of {variable}", dim, map(str, array.dims))
        labels = [str(x) for x in array[dim].values.tolist()]
        if label not in labels:
            raise unknown(f"label of {dim}", label, labels)
        array = array.isel({dim: labels.index(label)})
        where.append(f"{dim}={label}")
    summed = agreement.summed(array)  # where the citation names no label
    array = array.sum(summed).squeeze()
    if array.dims:
        left = "; ".join(f"{dim} = {', '.join(map(str, array[dim].values.tolist()))}" for dim in array.dims)
        raise BadInput(f"{variable} has {array.size} values there; wanted labels for {clip(left, 400)[1:-1]}")
    unit = ds[variable].attrs.get("units", "1")
    over = f", summed over {' and '.join(summed)}" if summed else ""
    place = f" at {', '.join(where)}" if where else ""
    counted = f", conventions {ds.attrs['conventions']}" if "conventions" in ds.attrs else ""
    text = f"{variable} = {array.item():.6g}{'' if unit == '1' else f' {unit}'}{place}{over}{counted}"
    return {"cell": text, "variable": variable, "value": array.item(), "unit": unit, "coordinates": where}


def _with_merits(ds: xr.Dataset) -> xr.Dataset:
    """Return a dataset with every figure of merit, one step of the way after the other, as far as its variables allow."""
    steps: tuple[Callable[[xr.Dataset], xr.Dataset], ...] = (
        metrics.summary, metrics.compare, lambda ds: metrics.battery(ds, **claims.BATTERY), metrics.operations,
        lambda ds: metrics.lead(ds, claims.earlier_values()),
    )  # fmt: skip
    if "system" in ds.dims:
        for step in steps:
            with suppress(BadInput, KeyError, AttributeError):  # one that is no summary, or lacks products of today
                ds = step(ds)
    return ds
