"""Everything it takes to cite and to repeat the results, as one RO-Crate: a zip file with a description of itself."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from pimllm_lib import __version__
from pimllm_lib.archive import attested, dataset, manifest, provenance, sources, swhid, versions
from pimllm_lib.archive.cite import AUTHORS
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput

#: What a crate holds beside archive, notebooks and library.
_TEXTS = (
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "environment.yml",
    "requirements.lock",
    "pyproject.toml",
    "hatch_build.py",
)
_FORMATS = {
    ".nc": "application/netcdf", ".csv": "text/csv", ".json": "application/json", ".ipynb": "application/x-ipynb+json",
    ".py": "text/x-python", ".toml": "application/toml", ".md": "text/markdown", ".yml": "application/yaml",
    ".yaml": "application/yaml",
}  # fmt: skip
#: Licence -> its address, and what it covers.
_LICENCES = {
    "CC-BY-4.0": ("https://creativecommons.org/licenses/by/4.0/", "the data"),
    "MIT": ("https://spdx.org/licenses/MIT", "the code"),
}
TITLE = "What hybrid analog processing-in-memory buys a 1-bit LLM: results, notebooks and model"
_TITLE_AND_VERSION = f"{TITLE} (pimllm {__version__})"
SUMMARY = (
    "Archived results of pimllm, a model of hybrid analog processing-in-memory and systolic accelerators for 1-bit language "
    "models, with the notebooks and the library that make them again. data/manifest.json names each archived file by its "
    "SHA-256; every dataset carries its parameters and the hash of its sources."
)
KEYWORDS = ("processing-in-memory", "systolic array", "1-bit LLM", "crossbar", "reproducible research")
#: The study that the results are about.
_SUBJECT = "https://arxiv.org/abs/2504.01994"
_SUBJECT_NAME = "PIM-LLM: A High-Throughput Hybrid PIM Architecture for 1-bit LLMs"


def export(folder: Path, target: Path) -> Path:
    """Write an archive with notebooks, library, environment and licence as an RO-Crate 1.1 zip file. Returns the path.

    Equal contents give equal bytes, for a released version. Raises BadInput for an archive that is damaged, and for a target
    that exists or cannot be written.
    """
    if target.exists():
        raise BadInput(f"{target} is there already; wanted a new file name")
    files.require_file(target)
    files.sweep([target])
    if wrong := manifest.damage(folder) or manifest.unsettled(folder) or _foreign(folder):
        raise BadInput(f"{folder} cannot be exported: {wrong[0]}; 'pimllm verify' says more")
    if (size := sum(said["bytes"] for said in manifest.load(folder).values())) > files.LONGEST:
        raise BadInput(f"{folder} has {size} bytes; wanted at most {files.LONGEST}, which a crate is read with")
    contents = _contents(folder)
    release = versions.released_as(manifest.hash_of(folder))
    published = release.date if release else date.today()
    contents["zenodo.json"] = _json(_deposit(published))
    contents["ro-crate-metadata.json"] = _json(_crate(contents, published))
    return files.write(target, sources.zipped(contents))


def _foreign(folder: Path) -> list[str]:
    """Return which results the sources that would go with them have not given."""
    return [
        f"{name} is from other sources, and 'pimllm attest' has not said that these give it again"
        for name, path in manifest.names(folder).items()
        if name in paths.slugs() and not attested.holds(folder, path, provenance.source_hash(name))
    ]


def _contents(folder: Path) -> dict[str, bytes]:
    """Return path in the crate -> content. What the archive does not list of its folder stays out, but what tells of it."""
    beside = [name for name in ("README.md", attested.NAME) if (folder / name).is_file()]
    listed = [manifest.NAME, *manifest.load(folder), *beside]
    found = {f"data/{name}": files.read(files.inside(folder, name)) for name in listed}
    found |= {path.name: path.read_bytes() for name in _TEXTS if (path := paths.ROOT / name).is_file()}
    found |= {f"notebooks/{path.name}": path.read_bytes() for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))}
    return found | {paths.logical(path): path.read_bytes() for path in (*paths.library(), *paths.chapters())}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _crate(contents: dict[str, bytes], published: date) -> dict[str, Any]:
    """Return the description of a crate: what each file is, under which licence, made by what, about what."""
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")

    def add(entity: str, kind: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, entity, properties={"@type": kind, **properties}))

    team = add("#contributors", "Organization", name=AUTHORS)
    subject = add(_SUBJECT, "ScholarlyArticle", name=_SUBJECT_NAME)
    licences = {
        name: add(url, "CreativeWork", name=name, description=f"Licence of {scope}.")
        for name, (url, scope) in _LICENCES.items()
    }
    files_of = {
        name: crate.add_file(name, name, properties=_described(name, data, licences)) for name, data in contents.items()
    }
    software = add("#pimllm", "SoftwareApplication", name="pimllm", version=__version__, identifier=swhid.library())
    studies = {name: entity for name, entity in files_of.items() if name.startswith(f"data/{manifest.STUDIES}/")}
    add(
        "#run", "CreateAction", name="pimllm run, with the parameters that each dataset names", instrument=software,
        object=[entity for name, entity in files_of.items() if name.endswith(".ipynb")],
        result=[entity for name, entity in files_of.items() if name.endswith(".nc") and name not in studies],
    )  # fmt: skip
    if studies:
        add(
            "#sweep", "CreateAction", name="pimllm sweep, of the study beside each result", instrument=software,
            object=[entity for name, entity in studies.items() if name.endswith(".yaml")],
            result=[entity for name, entity in studies.items() if name.endswith(".nc")],
        )  # fmt: skip
    properties = {
        "name": _TITLE_AND_VERSION, "version": __version__, "description": SUMMARY, "keywords": list(KEYWORDS),
        "datePublished": published.isoformat(), "license": licences[dataset.LICENCE], "author": team, "publisher": team,
        "about": subject,
    }  # fmt: skip
    for name, value in properties.items():
        crate.root_dataset[name] = value
    generated: dict[str, Any] = crate.metadata.generate()
    generated["@graph"].sort(key=lambda entity: str(entity["@id"]))
    return generated


def _described(name: str, data: bytes, licences: dict[str, Any]) -> dict[str, Any]:
    """Return what a crate says of one file."""
    said = {"name": Path(name).name, "contentSize": str(len(data)), "sha256": files.hash_of(data)}
    if name.endswith(".nc"):
        said["name"] = str(dataset.decode(data, name).attrs.get("title", said["name"]))
    licence = licences[dataset.LICENCE if name.startswith("data/") else "MIT"]
    return said | {"encodingFormat": _FORMATS.get(Path(name).suffix, "text/plain"), "license": licence}


def _deposit(published: date) -> dict[str, Any]:
    """Return the metadata of a deposit, as Zenodo's interface takes it. It has no identifier: the repository gives one."""
    return {
        "metadata": {
            "upload_type": "dataset", "title": _TITLE_AND_VERSION, "description": SUMMARY,
            "creators": [{"name": AUTHORS}], "version": __version__, "publication_date": published.isoformat(),
            "license": dataset.LICENCE.lower(), "access_right": "open", "keywords": list(KEYWORDS),
            "related_identifiers": [
                {"identifier": f"arXiv:{Path(_SUBJECT).name}", "relation": "references", "scheme": "arxiv"}
            ],
        }
    }  # fmt: skip
