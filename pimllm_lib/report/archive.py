"""The archive: one netCDF-4 file per result, with its provenance; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.errors import BadInput
from pimllm_lib.report import provenance

LICENCE = "CC-BY-4.0"
#: Two runs of one result may differ by this relative amount: the libraries' rounding, nothing more.
TOLERANCE = 1e-9


def save(ds: xr.Dataset, slug: str, *, title: str, parameters: dict[str, Any], into: str | Path) -> Path:
    """Write a result as `<into>/<slug>.nc` and return the path.

    Attributes say what it is: title, licence, tolerance, and the provenance as one JSON string.
    Raises BadInput when the folder cannot be written.
    """
    record = provenance.record(slug, parameters, ds.attrs.get("fingerprints", ""))
    kept = {key: value for key, value in ds.attrs.items() if key != "fingerprints"}
    final = ds.copy()
    final.attrs = kept | {"title": title, "licence": LICENCE, "tolerance": TOLERANCE, "provenance": record}
    return write(final, Path(into) / f"{slug}.nc")


def write(ds: xr.Dataset, path: Path) -> Path:
    """Write a dataset as netCDF-4 and return the path. Raises BadInput when it cannot be written."""
    encoding = {name: {"_FillValue": None, "zlib": True, "shuffle": True} for name in ds.data_vars}
    with _replacing(path) as scratch:
        ds.to_netcdf(scratch, engine="h5netcdf", encoding=encoding)
    return path


def adopt(made: Path, path: Path) -> Path:
    """Copy a result, byte for byte, and return where to. Raises BadInput when it cannot be read or written."""
    with _replacing(path) as scratch:
        scratch.write_bytes(made.read_bytes())
    return path


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a scratch file beside `path` and put it there at the end: a reader sees the old file or the new one."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} cannot be written: it is a folder or a device; wanted the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            scratch = Path(folder, path.name)
            yield scratch
            os.replace(scratch, path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from None


def load(path: Path) -> xr.Dataset:
    """Return an archived result, in memory. Raises BadInput when the file is missing or is no netCDF-4."""
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            return ds.load()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; 'make archive' writes it") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not a netCDF-4 file: {str(error).splitlines()[0]}") from None


def parameters(ds: xr.Dataset) -> dict[str, Any]:
    """Return the effective parameters a result was made with."""
    return dict(json.loads(ds.attrs["provenance"])["parameters"])


def differences(fresh: xr.Dataset, archived: xr.Dataset) -> list[str]:
    """Return one line for each way a fresh result departs from the archived one; none when they agree.

    Values agree within the archived result's own relative tolerance.
    """
    if parameters(fresh) != parameters(archived):
        return [f"parameters: {parameters(fresh)} against {parameters(archived)}"]
    lines = [
        f"{name}: in one of the two only"
        for name in sorted(map(str, fresh.variables.keys() ^ archived.variables.keys()))
    ]
    tolerance = float(archived.attrs["tolerance"])
    for name in sorted(map(str, fresh.variables.keys() & archived.variables.keys())):
        lines += _difference(name, fresh[name], archived[name], tolerance)
    return lines


def _difference(name: str, new: xr.DataArray, old: xr.DataArray, tolerance: float) -> list[str]:
    if new.dims != old.dims or new.shape != old.shape:
        return [f"{name}: dimensions {dict(new.sizes)} against {dict(old.sizes)}"]
    if old.dtype.kind not in "fiu":
        return [] if np.array_equal(new.values, old.values) else [f"{name}: labels differ"]
    off = ~np.isclose(new.values, old.values, rtol=tolerance, atol=0.0, equal_nan=True)
    if not off.any():
        return []
    worst = np.nanmax(np.abs(new.values - old.values)[off] / np.maximum(np.abs(old.values)[off], 1e-300))
    return [f"{name}: {int(off.sum())} of {off.size} values differ, by up to {worst:.2e} of the archived value"]
