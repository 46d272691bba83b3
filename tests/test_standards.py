"""What is handed to others, judged by the programs of those who set its standard: make test MARK=peer."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from conftest import archive_given_here

from pimllm_lib.archive import export
from pimllm_lib.core.paths import ROOT

VALIDATOR = Path(__file__).parent / "peers" / "validate_crate.py"


def failed_checks(folder):
    program = [ROOT / ".venv-crate" / "bin" / "python", VALIDATOR, folder]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.peer
def test_an_exported_crate_is_a_valid_ro_crate_and_a_wrong_one_is_not(tmp_path):
    with zipfile.ZipFile(export.export(archive_given_here(tmp_path / "data"), tmp_path / "crate.zip")) as file:
        file.extractall(tmp_path / "crate")
    # The one recommendation that cannot be followed yet: the project has no address.
    assert [line.split(" ", 2)[::2] for line in failed_checks(tmp_path / "crate")] == [
        ["RECOMMENDED", "The organization SHOULD have a URL."]
    ]
    described = tmp_path / "crate" / "ro-crate-metadata.json"
    content = json.loads(described.read_text())
    next(entity for entity in content["@graph"] if entity["@id"] == "./").pop("license")
    described.write_text(json.dumps(content))
    assert any(line.startswith("REQUIRED") for line in failed_checks(tmp_path / "crate"))


@pytest.mark.peer
def test_the_citation_file_is_valid(tmp_path):
    program = ROOT / ".venv-cff" / "bin" / "cffconvert"
    assert subprocess.run([program, "--validate", "-i", ROOT / "CITATION.cff"], check=False).returncode == 0
    (tmp_path / "wrong.cff").write_text((ROOT / "CITATION.cff").read_text().replace("authors", "writers"))
    assert subprocess.run([program, "--validate", "-i", tmp_path / "wrong.cff"], check=False).returncode != 0
