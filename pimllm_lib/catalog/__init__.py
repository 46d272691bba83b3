"""Every literature number, in TOML files with unit, source, range and status; and how a name or path is resolved.

>>> from pimllm_lib import catalog
>>> catalog.models["opt-6.7b"].head_dim
128
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pimllm_lib import hardware
from pimllm_lib.catalog.bases import is_inside, name_inside, on_base, opened
from pimllm_lib.catalog.models import from_path, from_table
from pimllm_lib.catalog.quantities import build, name_of, read_toml, require_known
from pimllm_lib.core.conventions import PRESETS, Conventions
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import fingerprint
from pimllm_lib.core.rules import classes
from pimllm_lib.hardware import Device, System
from pimllm_lib.workload.decoder import Decoder

T = TypeVar("T")
_PARTS: dict[str, type[Any]] = {
    name: getattr(hardware, name) for name in hardware.__all__ if name not in ("ENGINES", "ONE_BY_ONE", "System")
}


class Registry(Mapping[str, T], Generic[T]):
    """A TOML file as a read-only mapping from name to object; read when first used."""

    def __init__(self, what: str, file: str, make: Callable[[str, dict[str, Any], str], T]) -> None:
        """Name what is listed, the file, and the function that makes an object of an entry."""
        self.what, self.file, self._make = what, file, make
        self._made: dict[str, T] = {}

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The file's tables as written: values in the units of the literature, with sources."""
        written = read_toml(Path(__file__).with_name(self.file))
        return {name: on_base(table, written, self.file) for name, table in written.items()}

    def __getitem__(self, name: str) -> T:
        """Return the object of that name; raises UnknownName with the nearest one."""
        if name not in self._made:
            if name not in self.entries:
                raise unknown(self.what, name, self.entries)
            self._made[name] = self._make(name, self.entries[name], self.file)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of the file."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self.entries)


def _part(name: str, table: Mapping[str, Any], where: str, open_files: tuple[str, ...] = ()) -> Any:
    table = on_base(table, parts.entries, where, open_files)
    if (kind := table.get("part")) is None:
        raise BadInput(f"{where}: {name} has neither base nor part; wanted the part it changes, or the class it is of")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise BadInput(f"{where}: {unknown(f'part class of {name}', kind, _PARTS)}")
    return build(_PARTS[kind], name, table, where, lambda item, field: _of_field(item, field, where, open_files))


def _of_field(item: Any, field: str, where: str, open_files: tuple[str, ...] = ()) -> Any:
    """Return the part that a field of an entry names, or describes in place as what it changes of its base."""
    if is_inside(item):
        return _part(name_inside(item, field), item, where, open_files)
    return part(item, near=Path(where).parent, open_files=open_files)


def _system(name: str, table: Mapping[str, Any], where: str, open_files: tuple[str, ...] = ()) -> System:
    table = on_base(table, systems.entries, where, open_files)
    require_known(where, f"field of {name}", table, ("name", "summary", "routing", *classes(System)))
    if "array" not in table:
        raise BadInput(f"{where}: {name}.array is missing; wanted the name or path of a SystolicArray")
    routing, near = table.get("routing"), Path(where).parent
    if routing is not None and not isinstance(routing, dict):
        raise BadInput(f"{where}: {name}.routing is {clip(routing)}; wanted a table of kind = engine")
    given: dict[str, Any] = {} if routing is None else {"routing": routing}
    inside = {key: _of_field(table[key], key, where) for key in classes(System) if is_inside(table.get(key))}
    try:
        for key, wanted in classes(System).items():
            if not isinstance(item := table.get(key, ""), str) and key not in inside:
                raise BadInput(f"{name}.{key} is {clip(item)}; wanted the name or path of a {wanted.__name__}")
            if key in table:
                given[key] = part(inside.get(key, item), wanted, near)
        return System(name=name, **given)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


models: Registry[Decoder] = Registry("model", "models.toml", from_table)
parts: Registry[Any] = Registry("part", "parts.toml", _part)
systems: Registry[System] = Registry("system", "systems.toml", _system)
devices: Registry[Device] = Registry("device", "devices.toml", _part)


def model(item: Decoder | str | Path) -> Decoder:
    """Return a decoder: itself, by catalog name, a TOML, GGUF or config.json file, or a folder or file beside the latter."""
    if isinstance(item, Decoder):
        return item
    return from_path(Path(item)) if _is_path("model", item, models) else models[str(item)]


def part(item: Any, wanted: type[Any] = object, near: Path | None = None, open_files: tuple[str, ...] = ()) -> Any:
    """Return a hardware part: itself, by catalog name, or from a TOML file (relative to the folder `near`).

    open_files: files being read, each of which names the next. Raises BadInput when it is not of the wanted class, and
    when a file names itself through others.
    """
    found = item
    if isinstance(item, str | Path):
        path = (near or Path()) / item
        if not _is_path("part", item, parts):
            found = parts[str(item)]
        else:
            table = read_toml(path)
            found = _part(name_of(table, path), table, str(path), opened(path, open_files))
    if not isinstance(found, wanted if wanted is not object else tuple(_PARTS.values())):
        raise BadInput(f"{clip(item)} is a {type(found).__name__}; wanted a {wanted.__name__}")
    return found


def device(item: Device | str | Path) -> Device:
    """Return a machine that one can buy: itself, by catalog name, or from a TOML file."""
    named = isinstance(item, str | Path) and not _is_path("device", item, devices)
    found: Device = devices[str(item)] if named else part(item, Device)
    return found


def system(item: Any) -> Any:
    """Return an accelerator: itself, by catalog name, or from a TOML file.

    Any object with a `name` and a method `costs(products)` is one too. `costs` gets the list of `workload.Product` of a
    step and returns for each op a mapping from extensive variable to its value for one step, latency_s and energy_j at
    least.
    """
    if isinstance(item, System) or (callable(getattr(item, "costs", None)) and isinstance(item.name, str)):
        return item
    if not _is_path("system", item, systems):
        return systems[str(item)]
    table = read_toml(Path(item))
    return _system(name_of(table, Path(item)), table, str(item), opened(Path(item), ()))


def preset(item: Conventions | str | Path, open_files: tuple[str, ...] = ()) -> Conventions:
    """Return accounting conventions: themselves, a preset by name, or from a TOML file.

    The file has the fields it changes, and `base`, the preset or file whose fields it keeps (default "corrected").
    Raises BadInput when they bear the name of a preset and are not that preset, since the name is what a table shows.
    """
    if isinstance(item, str | Path) and _is_path("conventions", item, PRESETS):
        item = _conventions_from(Path(item), open_files)
    elif not isinstance(item, Conventions):
        if not isinstance(item, str | Path) or str(item) not in PRESETS:
            raise unknown("conventions", item, PRESETS)
        return PRESETS[str(item)]
    if item.name in PRESETS and fingerprint(item) != fingerprint(PRESETS[item.name]):
        raise BadInput(f"conventions named {item.name!r} are not the preset of that name; wanted another name")
    return item


def _conventions_from(path: Path, open_files: tuple[str, ...]) -> Conventions:
    table, files = read_toml(path), opened(path, open_files)
    base = table.pop("base", "corrected")
    if _is_path("base", base, PRESETS):
        base = path.parent / base
    table["name"] = name_of(table, path)
    require_known(str(path), "convention", table, Conventions.__dataclass_fields__)
    try:
        return replace(preset(base, files), **table)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _is_path(what: str, item: object, names: Mapping[str, Any]) -> bool:
    if not isinstance(item, str | Path):
        raise BadInput(f"{what} is {clip(item)}; wanted a name, a path or an object")
    text = str(item)
    ends = (".toml", ".json", ".safetensors", ".gguf")
    return text not in names and (isinstance(item, Path) or text.endswith(ends) or "/" in text or os.path.exists(text))
