"""Datasets that are joined say of all of them what was evaluated, and in what it is not the catalog's."""

import json
import re
from dataclasses import replace
from pathlib import Path

import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.analysis import claims
from pimllm_lib.cli.main import main
from pimllm_lib.core import joining
from pimllm_lib.core.parts import with_field

DIGESTS = st.text("0123456789abcdef", min_size=12, max_size=12)
NAMES = st.sampled_from(["opt-1.3b", "full-system with overlap=True", "pim-llm"])
SAID = st.builds(
    lambda printed, own: {"fingerprints": " ".join(f"{n}={d}" for n, d in printed), "user_values": json.dumps(own)},
    st.lists(st.tuples(NAMES, DIGESTS), max_size=3), st.dictionaries(st.sampled_from("abc"), st.sampled_from("123")),
)  # fmt: skip


@given(st.lists(SAID, min_size=1, max_size=4))
def test_joined_attributes_hold_every_fingerprint_and_every_value_once(said):
    whole = joining.united(said)
    assert sorted(joining.entries(whole)) == sorted({item for attrs in said for item in joining.entries(attrs)})
    own = json.loads(whole.get("user_values", "{}"))
    for attrs in said:
        for name, value in json.loads(attrs["user_values"]).items():
            assert value in (own[name] if isinstance(own[name], list) else [own[name]])
    assert joining.united([whole, *said]) == whole


def test_attributes_that_contradict_one_another_are_left_out():
    assert joining.united([{"phase": "decode", "n": 1}, {"phase": "prefill"}]) == {"n": 1}


def test_a_remedy_for_two_models_leaves_every_fingerprint_and_changed_value_in_the_file(tmp_path, capsys):
    models = ["--model", "opt-1.3b", "--model", "gpt2-355m"]
    assert main(["evaluate", *models, "--system", "pim-llm", "--system", "tpu-llm", "--remedy", "row groups",
                 "--context", "128", "--netcdf", str(tmp_path / "w.nc")]) == 0  # fmt: skip
    with xr.open_dataset(tmp_path / "w.nc", engine="h5netcdf") as ds:
        names = {item.rsplit("=", 1)[0] for item in joining.entries(ds.attrs)}
        own = json.loads(ds.attrs["user_values"])
    assert names == {"opt-1.3b", "gpt2-355m", "pim-llm", "tpu-llm", "corrected"}
    assert {name.split(":")[0] for name in own} == {"pim-llm", "tpu-llm"}


def test_two_machines_of_one_name_keep_both_fingerprints_and_answer_no_claim():
    home = pl.catalog.systems["tpu-llm"]
    other = with_field(home, "array.rate_hz", 2e8)
    asked = {"model": "opt-6.7b", "context_len": 128, "conventions": "as-published"}
    each = [pl.metrics.summary(pl.evaluate(system=system, **asked)) for system in (home, other)]
    assert len(claims.check(each[0]))
    both = joining.concat(each, xr.Variable("clock", [1, 2]))
    assert len([item for item in joining.entries(both.attrs) if item.startswith("tpu-llm=")]) == 2
    assert claims.check(both.isel(clock=0)).empty


def test_an_answer_and_a_power_table_say_what_they_are_of():
    system = replace(pl.catalog.systems["tpu-llm"], name="mine")
    asked = {"system": system, "model": "opt-1.3b"}
    answer = pl.generate(prompt=8, new_tokens=2, **asked)
    power = pl.metrics.power(pl.evaluate(context_len=8, detail="component", **asked))
    assert all({"fingerprints", "user_values"} <= ds.attrs.keys() for ds in (answer, power))


def test_nothing_but_the_one_module_joins_datasets():
    paths = [path for path in Path(pl.__file__).parent.rglob("*.py") if path.name != "joining.py"]
    assert not [path for path in paths if re.search(r"xr\.(concat|merge|combine\w*)\(|combine_attrs", path.read_text())]
