"""The language models and what they learn from: corpora that cannot drift, exact entropies, training that resumes."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import checkout

from benchmarks import device_trials
from pimllm_lib import catalog
from pimllm_lib.analog.lm import checkpoint, corpus, docstrings, readers, recipes, source, trained
from pimllm_lib.analog.lm.evaluation import bits_per_byte, calibrate, expected_losses, on_crossbars
from pimllm_lib.analog.lm.language import every_loss, logits, losses
from pimllm_lib.analog.lm.layers import attend, exact, zeroed
from pimllm_lib.analog.noise.attention import in_cells
from pimllm_lib.archive.agreement import STUDIES
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import Devices, Readout

CHECKPOINTS = paths.CHECKPOINTS
BAR = catalog.part("crossbar-256")


@pytest.fixture(scope="module")
def text():
    return docstrings.corpus()


@pytest.fixture(scope="module")
def generated():
    return source.documents(24, source.PARTS["held_out"][1])


@pytest.fixture(scope="module")
def model():
    return checkpoint.read(CHECKPOINTS / "docstrings-0")


@checkout
def test_the_docstrings_of_the_locked_packages_are_those_trained_on(text):
    without_distutils = {"numpy", "scipy"} if sys.version_info >= (3, 12) else set()
    assert {difference.split()[2] for difference in text.differences} == without_distutils
    assert text.held_out.size > 32 << 10


def test_held_out_packages_share_no_docstring_with_those_trained_on(text):
    learnt, held = (set(part.tobytes().split(b"\0")) for part in (text.training, text.held_out))
    assert not learnt & held
    assert not set(docstrings.TRAINING) & set(docstrings.HELD_OUT)


def test_another_text_is_reported_with_both_hashes(monkeypatch):
    monkeypatch.setattr(docstrings, "TRAINING", {"pooch": "0" * 64})
    monkeypatch.setattr(docstrings, "HELD_OUT", {})
    (difference,) = docstrings.corpus().differences
    assert difference.startswith("docstrings of pooch have SHA-256 ")
    assert difference.endswith("wanted " + "0" * 64)


def test_a_corpus_read_once_is_kept_and_a_damaged_copy_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.setattr(docstrings, "user_cache_path", lambda project: tmp_path / project)
    monkeypatch.setattr(docstrings, "TRAINING", {"pooch": ""})
    monkeypatch.setattr(docstrings, "HELD_OUT", {"tqdm": ""})
    first = docstrings.corpus()
    (kept,) = (tmp_path / "pimllm").iterdir()
    whole = kept.read_bytes()
    for content in (b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(content)
        assert np.array_equal(docstrings.corpus().training, first.training)
        assert kept.read_bytes() == whole
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as without:  # a cache that is no folder is none
        without.setattr(docstrings, "user_cache_path", lambda project: tmp_path / "file")
        assert np.array_equal(docstrings.corpus().training, first.training)
    monkeypatch.setattr(docstrings, "_docstrings", lambda package: pytest.fail("what is kept was read anew"))
    assert np.array_equal(docstrings.corpus().held_out, first.held_out)


def test_a_package_that_was_changed_on_the_disk_is_read_anew_and_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(docstrings, "user_cache_path", lambda project: tmp_path / project)
    monkeypatch.setattr(docstrings, "TRAINING", {})
    monkeypatch.setattr(docstrings, "HELD_OUT", {"mine": ""})
    source, text = (
        tmp_path / "mine.py",
        '"""A sentence of a module that is long enough to be part of a corpus of {} words."""',
    )
    monkeypatch.setattr(docstrings, "_sources", lambda package: [source])
    monkeypatch.setattr(docstrings, "_listing", str)
    found = []
    for word in ("English", "edited docstring", "English"):
        source.write_text(text.format(word * 20))
        found.append(docstrings.corpus())
    assert found[0].differences == found[2].differences != found[1].differences
    assert np.array_equal(found[0].held_out, found[2].held_out)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(docstrings, "TRAINING", {"nowhere": ""})
    with pytest.raises(BadInput, match="package nowhere is not installed"):
        docstrings.corpus()
    with pytest.raises(BadInput, match="unknown corpus 'docs', did you mean 'docstrings'"):
        corpus.named("docs")
    with pytest.raises(BadInput, match="has 5 tokens; wanted at least 8"):
        corpus.windows(np.zeros(5, np.uint8), 8)


def test_the_laws_of_the_generated_source_are_whole_and_sum_to_one(generated):
    assert all((table.sum(axis=-1) == source.SCALE).all() for table in source.tables())
    assert (source.law(generated).sum(axis=-1) == source.TOTAL).all()


def cross_entropy(truth, guess):
    """Return the mean over documents, in nats."""
    return source.cross_entropies(truth, guess).mean()


@pytest.mark.slow
def test_the_generated_source_draws_by_its_law():
    tokens = source.documents(2048, 9)
    law = source.law(tokens) / source.TOTAL
    body = tokens[:, source.CLASSES :].astype(int)
    drawn = np.log(np.take_along_axis(law, body[..., None], axis=2)[..., 0])
    spread = drawn.std() / np.sqrt(drawn.size)
    assert -drawn.mean() == pytest.approx(cross_entropy(law, law), abs=4 * spread)
    expected, found = law.sum(axis=(0, 1)), np.bincount(body.ravel(), minlength=source.SYMBOLS)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()


def test_the_best_predictor_without_the_header_lies_between_the_floor_and_the_average_of_the_lists(generated):
    law = source.law(generated) / source.TOTAL
    blind = source.without_header(generated)
    np.testing.assert_allclose(blind.sum(axis=-1), 1)
    floor, best = cross_entropy(law, law), cross_entropy(law, blind)
    bigram, trigram, favourites = source.tables()
    body = generated[:, source.CLASSES :].astype(int)
    one, two = (np.pad(body, ((0, 0), (n, 0)))[:, : source.BODY] for n in (1, 2))
    group = source.class_of(one)
    local = source.BIGRAM * bigram[one] + source.TRIGRAM * trigram[source.class_of(two), group]
    average = (local + source.HEADER * favourites.mean(axis=1)[group]) / source.TOTAL
    assert floor < best - 0.2 < cross_entropy(law, average) - 0.4


@pytest.mark.parametrize("name", sorted(recipes.recipes()))
def test_a_shipped_checkpoint_is_what_its_record_says(name):
    folder = CHECKPOINTS / name
    if not (paths.IN_CHECKOUT or (folder / "model.safetensors").is_file()):
        pytest.skip("a wheel has the record of this one alone")
    assert trained.damaged(folder) == []
    record = json.loads((folder / trained.NAME).read_text())
    recipe = recipes.recipe(name)
    assert record["recipe"] == json.loads(json.dumps(recipe.described()))
    assert len(record["training_loss"]) == recipe.steps // trained.SPAN
    at = checkpoint.read(folder)
    assert all(matrix.ternary is recipe.ternary for matrix in at.block(0).matrices.values())


def test_a_damaged_checkpoint_is_told_from_its_record(tmp_path):
    for path in (CHECKPOINTS / "generated-0").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    (damage,) = trained.damaged(tmp_path)
    assert "model.safetensors has SHA-256" in damage
    assert trained.damaged(tmp_path / "nowhere") == [f"{tmp_path / 'nowhere' / trained.NAME} is no training record"]


def test_a_model_of_which_the_record_alone_is_here_is_one_line_that_says_how_to_get_it(tmp_path, capsys):
    folder = tmp_path / "docstrings-full"
    folder.mkdir()
    shutil.copy(CHECKPOINTS / "docstrings-full" / trained.NAME, folder)
    said = f"wanted 'pimllm train docstrings-full --into {tmp_path}', or the folder from data/checkpoints of a checkout"
    for read in (checkpoint.read, readers.checkpoint_of):
        with pytest.raises(BadInput, match=re.escape(said)):
            read(folder)
    assert main(["describe", str(folder)]) == 2
    assert said in capsys.readouterr().err


@checkout
@pytest.mark.slow
def test_ternary_models_come_close_to_their_twin_on_text(text):
    names = (*recipes.SEEDS["docstrings"], "full")
    found = {name: trained.held_out(CHECKPOINTS / f"docstrings-{name}", text, 32) for name in names}
    assert all(np.exp(found[seed] - found["full"]) < 1.15 for seed in recipes.SEEDS["docstrings"])


@checkout
@pytest.mark.slow
def test_all_models_of_the_generated_source_beat_whoever_cannot_see_the_header(generated):
    law = source.law(generated) / source.TOTAL
    best, floor = cross_entropy(law, source.without_header(generated)), cross_entropy(law, law)
    for name in (*recipes.SEEDS["generated"], "full"):
        found = expected_losses(checkpoint.read(CHECKPOINTS / f"generated-{name}"), generated).mean()
        assert floor < found < best


def test_ideal_crossbars_leave_the_model_untouched_and_no_crossbars_say_nothing(model, text):
    tokens = corpus.windows(text.held_out, 128)[:4]
    clean = losses(model, tokens)
    for readout in (Readout(name="ideal"), Readout(name="unit", range="fixed", lsb=1.0, encoding="twos-complement")):
        bar = replace(BAR, adc=replace(BAR.adc, bits=10))
        same = losses(model, tokens, on_crossbars(bar, Devices(name="ideal"), readout))
        assert np.array_equal(same, clean)
    assert losses(model, tokens, zeroed).mean() > clean.mean() + 1


def test_losses_are_those_of_the_logits_and_a_header_is_given(model, text):
    tokens = corpus.windows(text.held_out, 64)[:2]
    scores = logits(model, tokens, exact).astype(float)
    chance = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    by_hand = -np.take_along_axis(chance[:, :-1], tokens[:, 1:, None].astype(int), axis=2)[..., 0]
    np.testing.assert_allclose(losses(model, tokens), by_hand, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(losses(model, tokens, header=16), by_hand[:, 15:], rtol=1e-4, atol=1e-4)
    assert bits_per_byte(by_hand, by_hand.size) == pytest.approx(by_hand.mean() / np.log(2))


def test_a_model_sees_nothing_of_what_comes_after(model, text):
    tokens = corpus.windows(text.held_out, 64)[:2].copy()
    before = logits(model, tokens)[:, :40]
    tokens[:, 40:] = 65
    np.testing.assert_allclose(logits(model, tokens)[:, :40], before, atol=1e-4)


def test_chunks_of_the_text_do_not_change_what_noise_it_gets(model, text, monkeypatch):
    tokens = corpus.windows(text.held_out, 64)[:6]
    noisy = on_crossbars(BAR, Devices(name="noisy", variation=0.1, read_noise=0.02), Readout(name="ideal"), seed=5)
    whole = losses(model, tokens, noisy)
    monkeypatch.setattr("pimllm_lib.analog.lm.language.CHUNK", 100)
    split = losses(model, tokens, noisy)
    assert np.abs(whole - split).mean() < 1e-3 * whole.std()  # sums of other lengths round otherwise, nothing else


def test_noise_on_one_kind_of_matrix_leaves_the_others_exact(model, text):
    tokens = corpus.windows(text.held_out, 64)[:4]
    found = Devices(name="varied", variation=0.5)
    clean = losses(model, tokens).mean()
    one = losses(model, tokens, on_crossbars(BAR, found, Readout(name="ideal"), only="3.q")).mean()
    every = losses(model, tokens, on_crossbars(BAR, found, Readout(name="ideal"))).mean()
    assert abs(one - clean) < (every - clean) / 5


def test_a_calibrated_range_is_that_of_each_layer(model, text):
    readout = Readout(name="sigmas", range="sigmas")
    found = calibrate(model, corpus.windows(text.training[: 1 << 14], 128)[:8], BAR, readout)
    assert len(found) == 7 * model.decoder.n_layers
    assert min(found.values()) > 0
    tokens = corpus.windows(text.held_out, 128)[:4]
    fine = on_crossbars(replace(BAR, adc=replace(BAR.adc, bits=8)), Devices(name="ideal"), readout, full_scales=found)
    assert abs(losses(model, tokens, fine).mean() - losses(model, tokens).mean()) < 0.02


def test_a_token_outside_the_vocabulary_is_refused(model):
    with pytest.raises(BadInput, match="a token is 256; wanted 0 to 255"):
        logits(model, np.full((1, 4), 256))


@pytest.mark.torch
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path):
    training = pytest.importorskip("pimllm_lib.analog.lm.training")
    shape = replace(recipes.recipe("generated-0").decoder, d_model=64, d_ff=64, n_layers=1, head_dim=16)
    recipe = recipes.Recipe(decoder=shape, corpus="generated", seed=1, ternary=True, steps=6, rate=1e-3, batch=2)
    text = corpus.Corpus(source.documents(64, 2).ravel(), np.zeros(0, np.uint8), source.CLASSES)
    straight = training.fit(recipe, text, tmp_path / "a.pt")

    class Stopped(Exception):
        pass

    def stop(step):
        if step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        training.fit(recipe, text, tmp_path / "b.pt", every=2, progress=stop)
    resumed = training.fit(recipe, text, tmp_path / "b.pt")
    assert resumed.losses == straight.losses
    training.export(resumed, recipe, tmp_path / "model")
    tokens = text.training.reshape(-1, source.LENGTH)[:4]
    ours = logits(checkpoint.read(tmp_path / "model"), tokens)
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        theirs = resumed.model(torch.from_numpy(tokens.astype(np.int64))).numpy()
    assert np.median(np.abs(ours - theirs)) < 0.02 * theirs.std()  # half precision turns some 8-bit roundings
    with pytest.raises(BadInput, match="is of another recipe"):
        training.fit(replace(recipe, rate=2e-3), text, tmp_path / "b.pt")


@pytest.mark.slow
def test_trials_an_hour_are_measured_where_numpy_computes():
    first, *rows = device_trials.report("numpy", windows=2, minutes=0.001)
    assert "2 windows of 128 tokens, numpy on this processor" in first
    assert len(rows) == len(device_trials.CASES)
    for row in rows:
        *_, hourly, off = row.split()
        assert float(hourly) > 0
        assert float(off) == 0


@pytest.mark.torch
def test_trials_on_torch_agree_with_those_of_numpy(monkeypatch):
    first, *rows = device_trials.report("cpu", windows=8, minutes=0.001)
    assert "torch on cpu" in first
    assert all(0 < float(row.split()[-1]) <= STUDIES for row in rows)
    monkeypatch.setattr(device_trials, "STUDIES", 0)
    with pytest.raises(SystemExit, match=r"on torch on cpu and \d.\d+ by numpy alone"):
        list(device_trials.report("cpu", windows=8, minutes=0.001))
    with pytest.raises(SystemExit, match="device nowhere: "):
        device_trials.computing("nowhere")


@pytest.mark.torch
@pytest.mark.parametrize("name", ["docstrings-0", "generated-full"])
@pytest.mark.parametrize("way", ["exact", "zeroed", "crossbars", "keys and values"])
def test_a_text_reads_on_torch_as_on_numpy(name, way):
    torch, like = pytest.importorskip("torch"), checkpoint.read(CHECKPOINTS / name)
    cells, ideal = Devices(name="varied", variation=0.2, read_noise=0.02), Readout(name="ideal")
    prepare = {"crossbars": on_crossbars(BAR, cells, ideal), "zeroed": zeroed}.get(way, exact)
    held = in_cells(replace(BAR, weight_bits=4), replace(cells, read_noise=0.0), ideal)
    tokens = np.random.default_rng(0).integers(0, like.decoder.vocab_size, size=(16, 96))

    def every(to):
        attention = held if way == "keys and values" else attend
        return every_loss(like, tokens, [(prepare, (False, True))], attention=attention, like=to)[0]

    (here, nudged), (there, _) = every(None), every(torch.zeros(1))
    assert there.shape == here.shape == (16, 95)
    # rounding turns 8-bit activations here and there, as that of embeddings does: no more than five times as much
    turned = np.abs(nudged - here)
    assert np.abs(there - here).max() <= 5 * turned.max() + 1e-5
    assert abs(there.mean() - here.mean()) <= 5 * np.linalg.norm((nudged - here).sum(axis=1)) / here.size + 1e-6
    if way in ("exact", "zeroed"):
        assert (
            np.median(
                np.abs(logits(like, tokens[:2], prepare, like=torch.zeros(1)) - logits(like, tokens[:2], prepare))
            )
            < 0.01
        )


def test_training_says_what_it_lacks(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="unknown checkpoint 'docstring-0', did you mean 'docstrings-0'"):
        next(trained.train(["docstring-0"], tmp_path, tmp_path, jobs=1, progress=False))
    monkeypatch.setattr(trained, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="needs PyTorch; wanted the extra 'train'"):
        next(trained.train(["docstrings-0"], tmp_path, Path("/"), jobs=1, progress=False))


@pytest.mark.torch
def test_later_training_goes_on_from_the_last_state_and_after_its_batches(tmp_path, monkeypatch):
    training, torch = (pytest.importorskip(name) for name in ("pimllm_lib.analog.lm.training", "torch"))
    shape = replace(recipes.recipe("generated-0").decoder, d_model=64, d_ff=64, n_layers=1, head_dim=16)
    first = recipes.Recipe(decoder=shape, corpus="generated", seed=1, ternary=True, steps=4, rate=1e-3, batch=2)
    calm = replace(first, steps=6, start="first")
    noisy = replace(calm, noise=0.3)
    monkeypatch.setattr(recipes, "recipe", {"first": first}.__getitem__)
    text = corpus.Corpus(source.documents(64, 2).ravel(), np.zeros(0, np.uint8), source.CLASSES)
    before = training.fit(first, text, tmp_path / "first.pt")

    def same(one, other):
        pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    begun = training.Run.start(calm, tmp_path / "calm.pt", "cpu")
    assert same(begun, before)
    assert (begun.step, begun.losses) == (0, [])
    tokens = training.batch(text.training, first, 4, aligned=True)
    with torch.no_grad():
        scores = before.model(tokens[:, :-1])[:, text.header - 1 :]
    want = torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, text.header :].flatten()).item()
    straight = {name: training.fit(recipe, text, tmp_path / f"{name}.pt") for name, recipe in
                (("calm", calm), ("noisy", noisy))}  # fmt: skip
    assert straight["calm"].losses[0] == pytest.approx(want, rel=1e-6)
    assert straight["noisy"].losses[0] != pytest.approx(want, rel=1e-6)
    assert not same(straight["calm"], straight["noisy"])
    assert not same(straight["calm"], before)

    class Stopped(Exception):
        pass

    def stop(step):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        training.fit(noisy, text, tmp_path / "cut.pt", every=2, progress=stop)
    resumed = training.fit(noisy, text, tmp_path / "cut.pt")
    assert resumed.losses == straight["noisy"].losses
    assert same(resumed, straight["noisy"])
    monkeypatch.setattr(recipes, "recipe", {"first": replace(first, rate=2e-3)}.__getitem__)
    with pytest.raises(BadInput, match=r"first.pt is of another recipe"):
        training.fit(calm, text, tmp_path / "other.pt")
