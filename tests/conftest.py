"""What several tests share."""

import pytest

#: Programs for environments of their own, no tests.
collect_ignore = ["peers"]

#: The seven models and six contexts of the published figures.
SEVEN = ["gpt2-355m", "gpt2-774m", "gpt2-1.5b", "opt-1.3b", "opt-2.7b", "llama-7b", "opt-6.7b"]
CONTEXTS = [128, 256, 512, 1024, 2048, 4096]


@pytest.fixture
def part_toml(tmp_path):
    """Write a systolic array as TOML, with one line replaced by another."""

    def write(old="", new=""):
        text = """part = "SystolicArray"
name = "mine"
rows = { value = 64, unit = "1", source = "us", status = "assumed" }
cols = { value = 16, unit = "1", source = "us", status = "assumed" }
rate_hz = { value = 500, unit = "MHz", source = "us", status = "assumed" }
active_pe_energy_j = { value = 0.2, unit = "pJ", source = "us", status = "assumed" }
idle_pe_energy_j = { value = 0.02, unit = "pJ", source = "us", status = "assumed" }
"""
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new))
        return path

    return write
