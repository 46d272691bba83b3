"""Points that cannot be evaluated are left out of a study, the very ones, and counted by reason; --strict refuses them."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.archive import dataset
from pimllm_lib.cli.main import main
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_fields
from pimllm_lib.studies import folder, study_file
from pimllm_lib.sweep.boxes import left_out

SIZES, PES, ROWS = (1, 2, 4, 128), (1, 4), (8, 16)
FIELDS = [f"system.pim.tile.crossbar.{name}" for name in ("rows", "cols", "dac.per_crossbar")]
CORNERS = f"""model: [opt-6.7b, opt-1.3b]
context_len: [128, 1024]
axes:
  size: {{fields: {json.dumps(FIELDS)}, values: {list(SIZES)}}}
  system.pim.tile.pes: {list(PES)}
  system.array.rows: {list(ROWS)}
"""
TILES = "tiles of a block, of which at most 10000000 are placed"
pytestmark = pytest.mark.filterwarnings("ignore::pimllm_lib.core.errors.Note")


def written(path, text):
    path.write_text(text)
    return path


def alone(model, context, size, pes, rows):
    """Return what one point gives by itself, NaN where it cannot be."""
    changes = {field.removeprefix("system."): size for field in FIELDS} | {"pim.tile.pes": pes, "array.rows": rows}
    try:
        system = with_fields(pl.catalog.systems["pim-llm"], changes)
        ds = pl.evaluate(system=system, model=model, context_len=context, conventions="full-system")
    except BadInput:
        return np.nan
    return 1 / ds.latency_s.item()


@pytest.mark.parametrize("chunk", [100, 7])
def test_the_points_that_are_left_out_are_those_that_fail_alone(chunk, tmp_path, capsys):
    path = written(tmp_path / "corners.yaml", CORNERS + f"chunk: {chunk}\n")
    assert main(["sweep", str(path), "--into", str(tmp_path / "out")]) == 0
    ds = dataset.load(tmp_path / "out" / "corners.nc")
    models, contexts = ds.model.values, ds.context_len.values
    right = [alone(str(m), int(c), s, p, r) for m, c, r, p, s in product(models, contexts, ROWS, PES, SIZES)]
    found = ds.tokens_per_s.transpose("model", "context_len", "array_rows", "pim_tile_pes", "size").values.ravel()
    np.testing.assert_allclose(found, right, rtol=1e-12)
    bad = int(np.isnan(right).sum())
    assert 0 < bad < len(right)
    assert json.loads(ds.attrs["left_out"]) == {TILES: bad}
    said = f"{bad} of {len(right)} points cannot be evaluated, because of {TILES} ({bad}); they are left out"
    assert capsys.readouterr().err.splitlines()[-1] == f"pimllm: {said}"


@pytest.mark.parametrize("kind", ["pareto", "top"])
def test_the_best_designs_do_not_depend_on_chunks_where_points_are_left_out(kind, tmp_path):
    text = CORNERS + f"reduce: {{kind: {kind}, count: 14, objectives: {{tokens_per_s: max}}}}\n"
    made = []
    for chunk in (100, 1):
        path = written(tmp_path / f"corners-{chunk}.yaml", text + f"chunk: {chunk}\n")
        made.append(dataset.load(folder.run(study_file.read(path), tmp_path / f"{chunk}")))
    one, many = made
    assert left_out(one) == left_out(many)
    assert not np.isnan(one.tokens_per_s).any()
    assert sorted(one.tokens_per_s.values) == pytest.approx(sorted(many.tokens_per_s.values), rel=1e-12)


def test_a_point_may_fail_for_what_its_fields_are_beside_one_another(tmp_path):
    axes = "axes:\n  model.n_heads: [8, 12, 16]\n  model.n_kv_heads: [3, 4, 8]\n"
    path = written(tmp_path / "heads.yaml", "model: opt-1.3b\n" + axes)
    ds = dataset.load(folder.run(study_file.read(path), tmp_path / "out"))
    fits = [[heads % kv == 0 for kv in (3, 4, 8)] for heads in (8, 12, 16)]
    assert (~np.isnan(ds.tokens_per_s.transpose(..., "n_heads", "n_kv_heads").values.squeeze())).tolist() == fits
    assert left_out(ds) == {"n_kv_heads of opt-1.3b": 3}


@pytest.mark.parametrize("words", [["--strict"], []])
def test_strict_refuses_the_first_and_a_study_without_a_point_is_refused_anyway(words, tmp_path, capsys):
    text = CORNERS if words else CORNERS.replace(str(list(SIZES)), "[1]").replace("opt-6.7b, opt-1.3b", "opt-30b")
    path = written(tmp_path / "corners.yaml", text)
    assert main(["sweep", str(path), "--into", str(tmp_path / "out"), *words]) == 2
    err = capsys.readouterr().err
    assert ("wanted at most 10000000, which are placed one by one" if words else "wanted some that can") in err
    assert err.count("\n") == 1


def test_strict_also_refuses_what_another_run_left_out(tmp_path):
    plan = study_file.read(written(tmp_path / "corners.yaml", CORNERS))
    folder.run(plan, tmp_path / "out")
    with pytest.raises(BadInput, match=r"32 of 64 points cannot be evaluated, because of .*; wanted all that can"):
        folder.run(replace(plan, strict=True), tmp_path / "out")
