"""Results as netCDF-4 files: how they are written, with what they say of themselves, and how they are read."""

from __future__ import annotations

import json
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import xarray as xr

from pimllm_lib import __version__
from pimllm_lib.archive import provenance
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, one_line
from pimllm_lib.core.joining import CARRIED

LICENCE = "CC-BY-4.0"
#: The metadata conventions that names of attributes follow. `tokens` is the one unit they do not know.
CONVENTIONS = "CF-1.11"
#: Two runs of one result may differ by this relative amount: the libraries' rounding, nothing more.
TOLERANCE = 1e-9
#: What the provenance of every result has.
_RECORD = {"pimllm": str, "source_hash": str, "parameters": dict, "user_values": dict, "packages": dict}
#: What every result says of itself.
ATTRIBUTES = ("title", "licence", "Conventions", "source", "schema_version", "tolerance", "provenance")


def save(
    ds: xr.Dataset,
    slug: str,
    *,
    title: str,
    parameters: dict[str, Any],
    into: str | Path,
    tolerance: float = TOLERANCE,
    source: str = "",
) -> Path:
    """Write a result as `<into>/<slug>.nc` and return the path.

    tolerance: by which a repeated run may differ, relative; source: what it came from by hash, where that is no notebook.

    Attributes say what it is: title, licence, tolerance, and the provenance as one JSON string.
    Raises BadInput when the folder cannot be written.
    """
    record = provenance.record(slug, parameters, ds.attrs, source)
    final = ds.drop_attrs(deep=False).assign_attrs(
        {key: value for key, value in ds.attrs.items() if key not in CARRIED},
        title=title, licence=LICENCE, Conventions=CONVENTIONS, source=f"pimllm {__version__}", tolerance=tolerance,
        provenance=record,
    )  # fmt: skip
    return write(final, Path(into) / f"{slug}.nc")


def write(ds: xr.Dataset, path: Path) -> Path:
    """Write a dataset as netCDF-4 and return the path. Raises BadInput when it cannot be written."""
    return files.write(path, encode(ds))


def encode(ds: xr.Dataset) -> bytes:
    """Return a dataset as the bytes of a netCDF-4 file."""
    encoding = {name: {"_FillValue": None, "zlib": True, "shuffle": True} for name in ds.data_vars}
    return bytes(ds.to_netcdf(engine="h5netcdf", encoding=encoding))


def load(path: Path) -> xr.Dataset:
    """Return an archived result, in memory. Raises BadInput when the file is missing or is no netCDF-4."""
    if not path.exists():
        study = f"sweep data/studies/{path.stem}.yaml --archive" if path.parent == paths.STUDIES else ""
        raise BadInput(f"{path} does not exist; 'pimllm {study or f'run {path.stem}'}' makes it")
    return decode(files.read(path), path)


def decode(content: bytes, where: object) -> xr.Dataset:
    """Return the dataset in the bytes of a netCDF-4 file. Raises BadInput when there is none.

    Nothing in a file is executed, and nothing outside it is read: a file with links to others is refused.
    """
    try:
        return _decoded(content).copy(deep=True)
    except BadInput as error:
        raise BadInput(f"{where} {error}") from None
    except Exception as error:  # a damaged file makes HDF5 and its readers fail in many ways
        said = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise BadInput(f"{where} is not a netCDF-4 file: {said}") from None


@lru_cache(maxsize=32)  # pages, tables and claims read the same results, and unpacking one takes a tenth of a second
def _decoded(content: bytes) -> xr.Dataset:
    _refuse_links(content)
    with xr.open_dataset(BytesIO(content), engine="h5netcdf", phony_dims="sort") as ds:
        return ds.load().drop_encoding()  # or the widths of its labels would be those of what is made of it


def _refuse_links(content: bytes) -> None:
    import h5py

    with h5py.File(BytesIO(content), "r") as file:
        for name in file:
            inner = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
            if inner is None or getattr(inner, "external", None) or getattr(inner, "is_virtual", False):
                raise BadInput(f"takes {name!r} from another file; wanted a file that stands alone")


def record(ds: xr.Dataset, where: object = "the dataset") -> dict[str, Any]:
    """Return the provenance of a result. Raises BadInput when it has none: then it is not one of ours."""
    try:
        content: dict[str, Any] = {"user_values": {}, **json.loads(ds.attrs["provenance"])}
        float(ds.attrs["tolerance"])
        whole = all(isinstance(content[key], kind) for key, kind in _RECORD.items())
    except (KeyError, ValueError, TypeError):
        whole = False
    if not whole:
        raise BadInput(f"{where} has no provenance of this project; wanted a result made by 'pimllm run'")
    return content


def sources_of(result: xr.Dataset | Path, where: object = "the dataset") -> str:
    """Return the hash of the sources that made a result, given as a dataset or a file. Raises BadInput where it is none."""
    if isinstance(result, Path):
        return sources_of(load(result), result)
    return str(record(result, where)["source_hash"])


def parameters(ds: xr.Dataset) -> dict[str, Any]:
    """Return the effective parameters a result was made with."""
    return dict(record(ds)["parameters"])
