"""Results as netCDF-4 files: how they are written, with what they say of themselves, and how they are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import __version__
from pimllm_lib.archive import agreement, provenance
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip, one_line
from pimllm_lib.core.joining import CARRIED

LICENCE = "CC-BY-4.0"
#: The metadata conventions that names of attributes follow. `tokens` is the one unit they do not know.
CONVENTIONS = "CF-1.11"
#: What a result may take once it is read, and several together, so that what is made of them lies in 2 GiB of memory, too.
_UNPACKED, _TOGETHER = 512 << 20, 192 << 20
#: Deflate, which results are written with, gives at most so many bytes for one.
_DEFLATE = 1032
#: Bytes of a number once it is read, at least, and of a text.
_NUMBER, _TEXT = 8, 64
#: What a variable may hold, as numpy calls it: truths, numbers, texts, times.
_KINDS = "biufOSUTMm"
#: Results that unpack to no more are kept for who asks again.
_SMALL = 32 << 20
#: What the provenance of every result has.
_RECORD = {"result": str, "pimllm": str, "source_hash": str, "parameters": dict, "user_values": dict, "packages": dict}
#: What notebooks have for `systems` where nobody asked for others.
_PUBLISHED: tuple[list[str], ...] = ([], ["tpu-llm", "pim-llm"])
#: What every result says of itself.
ATTRIBUTES = ("title", "licence", "Conventions", "source", "schema_version", "tolerance", "provenance")


def save(
    ds: xr.Dataset,
    slug: str,
    *,
    title: str,
    parameters: dict[str, Any],
    into: str | Path,
    source: str = "",
) -> Path:
    """Write a result as `<into>/<slug>.nc` and return the path.

    source: what it came from by hash, where that is no notebook.

    Attributes say what it is: title, licence, the provenance as one JSON string, and by how much a repeated run may differ,
    which nobody believes: `agreement.tolerance` knows it.
    Raises BadInput when the folder cannot be written.
    """
    record = provenance.record(slug, parameters, ds.attrs, source)
    final = ds.drop_attrs(deep=False).assign_attrs(
        {key: value for key, value in ds.attrs.items() if key not in CARRIED},
        title=_titled(title, parameters), licence=LICENCE, Conventions=CONVENTIONS, source=f"pimllm {__version__}",
        tolerance=agreement.tolerance(slug, parameters), provenance=record,
    )  # fmt: skip
    return write(final, Path(into) / f"{slug}.nc")


def _titled(title: str, parameters: dict[str, Any]) -> str:
    """Return a title that names the systems of a result where its notebook was given others than the published ones."""
    systems = parameters.get("systems", [])
    return title if systems in _PUBLISHED else f"{title}; systems: {', '.join(map(str, systems))}"


def write(ds: xr.Dataset, path: Path) -> Path:
    """Write a dataset as netCDF-4 and return the path. Raises BadInput when it cannot be written."""
    return files.write(path, encode(ds, path))


def encode(ds: xr.Dataset, where: object) -> bytes:
    """Return a dataset as the bytes of a netCDF-4 file. Raises BadInput, naming where, for text that none can hold."""
    encoding = {name: {"_FillValue": None, "zlib": True, "shuffle": True} for name in ds.data_vars}
    try:
        return bytes(ds.to_netcdf(engine="h5netcdf", encoding=encoding))
    except UnicodeEncodeError as error:
        raise BadInput(f"{where} would hold the text {clip(error.object)}; wanted one that UTF-8 can hold") from None


def load(path: Path, *, most: int | None = _UNPACKED) -> xr.Dataset:
    """Return an archived result, in memory. Raises BadInput when the file is missing or is no netCDF-4.

    most: bytes that it may take once it is read; None where a run reads what it wrote itself, of any size.
    """
    if not path.exists():
        study = f"sweep data/studies/{path.stem}.yaml --archive" if path.parent == paths.STUDIES else ""
        raise BadInput(f"{path} does not exist; 'pimllm {study or f'run {path.stem}'}' makes it")
    return decode(files.read(path, limit=None if most is None else files.LONGEST), path, most)


def together(results: Iterable[tuple[str, xr.Dataset]]) -> dict[str, xr.Dataset]:
    """Return results by name, read one after the other. Raises BadInput for more than memory should hold at once."""
    found: dict[str, xr.Dataset] = {}
    for name, ds in results:
        found[name] = ds
        if (size := sum(one.nbytes for one in found.values())) > _TOGETHER:
            raise BadInput(f"the results up to {name} unpack to {size} bytes; wanted at most {_TOGETHER} together")
    return found


def decode(content: bytes, where: object, most: int | None = _UNPACKED) -> xr.Dataset:
    """Return the dataset in the bytes of a netCDF-4 file. Raises BadInput when there is none.

    Nothing in a file is executed, and nothing outside it is read: a file with links to others is refused. So is one that
    declares more than it can hold, or more than `most` bytes, before any of it is unpacked.
    """
    try:
        if (size := _declared(content)) > (size if most is None else most):
            raise BadInput(f"declares {size} bytes; wanted at most {most}")
        return _kept(content).copy(deep=True) if size <= _SMALL else _decoded(content)
    except BadInput as error:
        raise BadInput(f"{where} {error}") from None
    except Exception as error:  # a damaged file makes HDF5 and its readers fail in many ways
        said = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise BadInput(f"{where} is not a netCDF-4 file: {said}") from None


@lru_cache(maxsize=64)  # pages, tables and claims read the same results, old and new: each takes a tenth of a second
def _kept(content: bytes) -> xr.Dataset:
    return _decoded(content)


def _decoded(content: bytes) -> xr.Dataset:
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # scales that a file may state of its numbers
        warnings.simplefilter("error", xr.SerializationWarning)  # attributes that contradict what they stand beside
        with xr.open_dataset(BytesIO(content), engine="h5netcdf", phony_dims="sort") as ds:
            for name, variable in ds.variables.items():
                if variable.dtype.kind not in _KINDS:
                    raise BadInput(f"has {clip(name)} of type {clip(variable.dtype.str)}; wanted numbers or texts")
            return ds.load().drop_encoding()  # or the widths of its labels would be those of what is made of it


@lru_cache(maxsize=64)
def _declared(content: bytes) -> int:
    """Return how many bytes what a file declares takes once it is read.

    Raises BadInput for more than the file can hold, and for links to other files.
    """
    import h5py

    stored = read = 0
    with h5py.File(BytesIO(content), "r") as file:
        for name in file:
            inner = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
            if inner is None or getattr(inner, "external", None) or getattr(inner, "is_virtual", False):
                raise BadInput(f"takes {name!r} from another file; wanted a file that stands alone")
            if isinstance(inner, h5py.Dataset) and not _is_length(inner):
                values = max(inner.size or 0, prod(inner.chunks or ()))  # a chunk, which can be larger, is read whole
                stored += values * inner.dtype.itemsize
                read += values * (_TEXT if inner.dtype.kind == "O" else max(_NUMBER, inner.dtype.itemsize))
    if stored > _DEFLATE * len(content):
        raise BadInput(
            f"declares {stored} bytes, and has {len(content)}, which cannot hold more than {_DEFLATE} for one"
        )
    return read


def _is_length(inner: Any) -> bool:
    """Return whether a variable of a file is none: the length of a dimension without labels, of which nothing is stored."""
    said = inner.attrs.get("NAME")
    return isinstance(said, bytes) and b"This is a netCDF dimension but not a netCDF variable." in said


def record(ds: xr.Dataset, where: object = "the dataset") -> dict[str, Any]:
    """Return the provenance of a result. Raises BadInput when it has none: then it is not one of ours."""
    try:
        content: dict[str, Any] = {"user_values": {}, **files.from_json(ds.attrs["provenance"])}
        whole = all(isinstance(content[key], kind) for key, kind in _RECORD.items())
    except (KeyError, ValueError, TypeError):
        whole = False
    if not whole:
        raise BadInput(f"{where} has no provenance of this project; wanted a result made by 'pimllm run'")
    return content


def tolerance(ds: xr.Dataset) -> float:
    """Return by how much the values of a result may move when it is computed again, whatever its file states."""
    made = record(ds)
    return agreement.tolerance(made["result"], made["parameters"])


def sources_of(result: xr.Dataset | Path, where: object = "the dataset") -> str:
    """Return the hash of the sources that made a result, given as a dataset or a file. Raises BadInput where it is none."""
    if isinstance(result, Path):
        return sources_of(load(result), result)
    return str(record(result, where)["source_hash"])


def parameters(ds: xr.Dataset) -> dict[str, Any]:
    """Return the effective parameters a result was made with."""
    return dict(record(ds)["parameters"])
