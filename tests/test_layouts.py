"""One model in every layout: equal logits from each, a few-bit head on crossbars, and refusals of what fits no layout."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
from layouts import SHAPE, TOKENS
from safetensors.numpy import load_file, save_file

from pimllm_lib import catalog
from pimllm_lib.analog.lm import checkpoint, few, language, layers
from pimllm_lib.analog.lm.evaluation import calibrate, on_crossbars
from pimllm_lib.analog.lm.layout import EMBEDDING, HEAD, beside, projection
from pimllm_lib.core.errors import BadInput

GATE = projection(0, "gate")
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
#: Layout -> what writes the model in it.
WRITERS = {
    "autobitlinear": lambda at, *m: layouts.packed(at, *m, divided=False, linear_class="autobitlinear"),
    "bitlinear": lambda at, *m: layouts.packed(at, *m, divided=True, linear_class="bitlinear"),
    "no class": lambda at, *m: layouts.packed(at, *m, divided=True, bits=2, modules_to_not_convert=["lm_head$"]),
    "all kept": lambda at, *m: layouts.packed(
        at, *m, divided=True, modules_to_not_convert=["model.norm", "lm_head", "model.embed_tokens"]
    ),
    "online": lambda at, *m: layouts.masters(at, *m, quantization_config=ONLINE),
    "found": layouts.unpacked,
    "mlx": layouts.mlx,
    "mlx, negative scales": lambda at, *m: layouts.mlx(at, *m, sign=-1),
    "mlx, one group": lambda at, *m: layouts.mlx(at, *m, group=64),
}


def read_logits(folder, prepare=layers.exact):
    return language.logits(checkpoint.read(folder), TOKENS, prepare)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """Logits of the model as the library itself writes it."""
    return read_logits(WRITERS["autobitlinear"](tmp_path_factory.mktemp("wanted"), *layouts.drawn()))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_the_same_ternary_weights_give_equal_logits_from_every_layout(tmp_path, wanted, kind):
    found = read_logits(WRITERS[kind](tmp_path, *layouts.drawn()))
    assert wanted.std() > 0.1
    if kind == "found":  # there the head is found to have few values too, and is a product of whole numbers
        assert np.abs(found - wanted).max() < 0.05 * wanted.std()
    elif "class" in kind or kind == "bitlinear" or "kept" in kind:  # 1 / (1 / scale)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02 * wanted.std())
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("scales", [(1, 1), (1, 4), (2, 1), (4, 4), (32, 32)])
@pytest.mark.parametrize("draw", [layouts.ternary, layouts.binary])
def test_values_and_scales_of_groups_are_found_by_looking_and_in_codes(tmp_path, scales, draw):
    weights, norms = layouts.drawn(draw=draw, scales=scales)
    layouts.unpacked(tmp_path / "found", weights, norms)
    codes = {"bits": 2 if draw is layouts.ternary else 1, "group": 16 if scales[0] == 4 else 32}
    layouts.mlx(tmp_path / "mlx", weights, norms, **codes, tables=(EMBEDDING, HEAD))
    one, other = (checkpoint.read(tmp_path / kind) for kind in ("found", "mlx"))
    for read in (one, other):
        assert read.ternary
        for key, matrix in read.block(1).matrices.items():
            values, scale = weights[projection(1, key)]
            np.testing.assert_array_equal(matrix.values, values)
            assert matrix.values.dtype == np.int8
            np.testing.assert_array_equal(spread(matrix.scale, values.shape), spread(scale, values.shape))
        ((first, head),) = read.head()
        np.testing.assert_array_equal(head.values, weights[HEAD][0])
        assert (first, head.ternary) == (0, True)
        np.testing.assert_array_equal(read.embedding(), layouts.numbers(*weights[EMBEDDING]))
    shapes = [np.shape(read.block(0).matrices["gate"].scale) for read in (one, other)]
    groups = {
        (1, 1): [(), ()],
        (1, 4): [(1, 128), (1, 128)],
        (2, 1): [(2, 128), (2, 128)],
        (4, 4): [(4, 128), (4, 128)],
    }
    assert shapes == groups.get(scales, [(2, 128), (2, 128)])
    found = [language.logits(read, TOKENS) for read in (one, other)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5 * found[0].std())  # groups are added in another order
    apart = np.abs(found[0] - reference(weights, norms)) / found[0].std()
    assert np.median(apart) < 1e-5
    assert apart.max() < 0.1  # an activation half-way between two of its levels goes to either, by the order of sums


def spread(scales, shape):
    """Return the scale of each weight."""
    rows = np.atleast_2d(np.asarray(scales, np.float32))
    return np.broadcast_to(np.repeat(rows, shape[0] // len(rows), axis=0), shape)


def reference(weights, norms):
    """Return the logits of the whole model in float64, each matrix as numbers, from 8-bit activations."""
    dense = {name: layouts.numbers(*of).astype(np.float64) for name, of in weights.items()}

    def through(x, name):
        scale = 127 / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5)
        return np.clip(np.rint(x * scale), -128, 127) / scale @ dense[name].T

    def normed(x, name):
        return (x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * norms[name]).astype(np.float32).astype(float)

    half, length = SHAPE.head_dim // 2, TOKENS.shape[1]
    angle = np.outer(np.arange(length), 10000.0 ** (-np.arange(half) / half))

    def turned(x):
        x = x.reshape(*x.shape[:-1], -1, SHAPE.head_dim).swapaxes(-2, -3)
        one, two = x[..., :half], x[..., half:]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)

    x = dense[EMBEDDING][TOKENS]
    for i in range(SHAPE.n_layers):
        at = f"model.layers.{i}."
        h = normed(x, f"{at}input_layernorm.weight")
        q, k = (turned(through(h, projection(i, key))) for key in "qk")
        v = through(h, projection(i, "v")).reshape(*TOKENS.shape, -1, SHAPE.head_dim).swapaxes(1, 2)
        k, v = (np.repeat(a, SHAPE.n_heads // SHAPE.n_kv_heads, axis=1) for a in (k, v))
        scores = q @ k.swapaxes(-1, -2) / SHAPE.head_dim**0.5 + np.triu(np.full((length, length), -np.inf), 1)
        weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (weight / weight.sum(axis=-1, keepdims=True)) @ v
        x = x + through(seen.swapaxes(1, 2).reshape(*TOKENS.shape, -1), projection(i, "o"))
        h = normed(x, f"{at}post_attention_layernorm.weight")
        gate, up = (through(h, projection(i, key)) for key in ("gate", "up"))
        x = x + through(gate / (1 + np.exp(-gate)) * up, projection(i, "down"))
    return through(normed(x, "model.norm.weight"), HEAD)


def test_a_head_of_few_bits_lies_on_crossbars_too_and_in_parts_gives_the_same(tmp_path, monkeypatch):
    weights, norms = layouts.drawn(scales=(32, 32))
    read = checkpoint.read(layouts.mlx(tmp_path, weights, norms, tables=(HEAD,)))
    parts = {"crossbar": catalog.parts["crossbar-256"], "readout": catalog.parts["readout-4-sigma"]}
    ranges = calibrate(read, TOKENS, **parts)
    assert "head.0" in ranges
    assert len(ranges) == 7 * SHAPE.n_layers + 1
    ideal = on_crossbars(catalog.parts["crossbar-256"], catalog.parts["cells-ideal"], catalog.parts["readout-ideal"])
    whole = language.logits(read, TOKENS)
    np.testing.assert_array_equal(language.logits(read, TOKENS, ideal), whole)
    assert not np.array_equal(language.losses(read, TOKENS, layers.zeroed), language.losses(read, TOKENS))
    lost = language.losses(read, TOKENS)
    monkeypatch.setattr(checkpoint, "HEAD_PART", 24 * SHAPE.d_model)  # 24, 24 and 16 outputs
    assert [part.values.shape[1] for _, part in read.head()] == [24, 24, 16]
    np.testing.assert_allclose(language.logits(read, TOKENS), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(language.losses(read, TOKENS), lost, rtol=1e-6)


def test_a_tied_head_of_codes_is_the_embedding(tmp_path):
    shape = replace(SHAPE, tied_embeddings=True)
    weights, norms = layouts.drawn(shape)
    del weights[HEAD]
    read = checkpoint.read(layouts.mlx(tmp_path, weights, norms, shape, tables=(EMBEDDING, HEAD)))
    ((_, head),) = read.head()
    np.testing.assert_array_equal(head.values, weights[EMBEDDING][0])


def test_numbers_in_full_precision_are_not_taken_for_few(tmp_path):
    weights, norms = layouts.drawn()
    rng = np.random.default_rng(0)
    held = {name: rng.normal(0, 0.1, of[0].T.shape).astype(np.float16) for name, of in weights.items()}
    read = checkpoint.read(layouts.save(tmp_path, norms | held))
    assert not read.ternary
    with pytest.raises(BadInput, match=r"full precision; wanted ternary ones.*online"):
        checkpoint.require_ternary(read)
    held[projection(0, "k")] = layouts.numbers(*weights[projection(0, "k")])
    read = checkpoint.read(layouts.save(tmp_path, norms | held))
    with pytest.raises(BadInput, match=r"q_proj\.weight has other weights than those of few bits; wanted -s, 0 and s"):
        read.block(0)


def test_looking_finds_the_largest_group_and_leaves_zeros_alone():
    values = np.array([[1, 0, -1, 1] * 8, [0] * 32], np.float32)
    assert few.group_of(values * 0.3) == 32
    assert few.group_of(values * np.repeat([0.3, 0.5], 16).astype(np.float32)) == 16
    assert few.group_of(values + 0.1 * np.arange(32, dtype=np.float32)) is None
    assert few.joined(np.array([[0.5, 0], [0, 0]], np.float32)) == 0.5
    assert few.joined(np.array([[0.5, 2], [0, 0]], np.float32)).tolist() == [[0.5, 2], [2, 2]]
    assert few.joined(np.array([[0.5, 0], [2, 2]], np.float32)).tolist() == [[0.5, 2]]
    assert few.joined(np.zeros((1, 1), np.float32)) == 1


def changed(folder, **tensors):
    """Change tensors of a checkpoint, named by "scales", "biases" or "weight" of the first gate."""
    held = load_file(folder / "model.safetensors")
    for what, change in tensors.items():
        name = GATE if what == "weight" else beside(GATE, what)
        held[name] = change(held[name].copy())
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def at_first(value):
    def change(array):
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scales": at_first(0)}, r"gate_proj\.scales is 0\.0; wanted a number other than 0"),
        ({"scales": at_first(np.inf)}, r"gate_proj\.scales holds inf; wanted finite numbers"),
        ({"biases": at_first(np.nan)}, r"gate_proj\.biases holds nan; wanted finite numbers"),
        ({"biases": at_first(0.01)}, r"gate_proj\.weight has other weights than those of few bits; wanted -s, 0 and s"),
        ({"weight": at_first(0xFFFFFFF1)}, r"gate_proj\.weight has other weights than those of few bits"),
        (
            {"scales": lambda a: a[:, :1].copy()},
            r"gate_proj\.scales is F16 \[128, 1\]; config\.json wants .* \[128, 2\]",
        ),
        ({"weight": lambda a: a.astype(np.uint8)}, r"gate_proj\.weight is U8 \[128, 4\]; config\.json wants U32"),
    ],
)
def test_codes_that_are_not_of_few_bits_are_refused(tmp_path, change, words):
    changed(layouts.mlx(tmp_path, *layouts.drawn()), **change)
    with pytest.raises(BadInput, match=words) as caught:
        checkpoint.read(tmp_path).block(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"group_size": 48, "bits": 2}, r"q_proj of .* has 64 inputs; wanted a multiple of 48, the group, and of 16"),
        ({"group_size": 32, "bits": 4}, "bits of quantization is 4; wanted 1 or 2: few-bit weights"),
        ({"group_size": 0, "bits": 2}, "group_size of quantization is 0; wanted a whole number"),
        ({"group_size": True, "bits": 2}, "group_size of quantization is True"),
        ({"group_size": 32}, "bits of quantization is None"),
        ({"group_size": 32, "bits": 2, "mode": "mxfp4"}, "wanted group_size and bits alone"),
        (
            {"group_size": 32, "bits": 2, "lm_head": {"bits": 4}},
            "quantization of 'lm_head' is .*; wanted codes of the same",
        ),
    ],
)
def test_marks_of_mlx_that_cannot_be_computed_are_refused(tmp_path, table, words):
    layouts.mlx(tmp_path, *layouts.drawn())
    layouts.save(tmp_path, load_file(tmp_path / "model.safetensors"), quantization=table)
    with pytest.raises(BadInput, match=words):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize(
    ("kept", "tied", "good"),
    [
        (None, False, True), (["lm_head"], False, True), (["lm_head$"], False, True), (["model.norm"], False, False),
        (["model.norm", "lm_head", "model.embed_tokens"], False, True), ([], False, False), ([], True, True),
        (["lm_head", "model.layers.0.mlp.down_proj"], False, False), ("lm_head", False, False), ([3], False, False),
    ],
)  # fmt: skip
def test_what_no_ternary_layer_replaces_has_the_head_among_it(tmp_path, kept, tied, good):
    weights, norms = layouts.drawn(replace(SHAPE, tied_embeddings=tied))
    at = layouts.packed(tmp_path, weights, norms, divided=True, modules_to_not_convert=kept)
    held = load_file(at / "model.safetensors")
    if tied:
        del held[HEAD]
    table = {"quant_method": "bitnet", "modules_to_not_convert": kept}
    layouts.save(at, held, replace(SHAPE, tied_embeddings=tied), quantization_config=table)
    if good:
        assert checkpoint.read(at).block(0)
    else:
        with pytest.raises(BadInput, match=r"modules_to_not_convert is .*; wanted null, or lm_head and no projection"):
            checkpoint.read(at)


# --- precisions without weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "draw", "tables", "levels"),
    [(2, layouts.ternary, (EMBEDDING, HEAD), 3), (1, layouts.binary, (HEAD,), 2), (2, layouts.ternary, (), 3)],
)
def test_levels_and_groups_are_read_off_headers(tmp_path, bits, draw, tables, levels):
    at = layouts.mlx(tmp_path, *layouts.drawn(draw=draw), bits=bits, tables=tables)
    for item in (at, at / "model.safetensors", at / "config.json"):
        found = catalog.model(item)
        assert (found.levels, found.scale_group) == (levels, 32)
        assert (found.head_levels, found.embedding_levels) == tuple(
            levels if name in tables else 256 for name in (HEAD, EMBEDDING)
        )


def test_codes_whose_biases_are_other_numbers_have_four_levels_and_a_configuration_alone_says_its_bits(tmp_path):
    at = layouts.mlx(tmp_path, *layouts.drawn())
    held = load_file(at / "model.safetensors")
    for name in held:
        if name.endswith("biases"):
            held[name] *= np.float16(1.5)
    save_file(held, at / "model.safetensors")
    assert catalog.model(at).levels == 4
    (at / "model.safetensors").unlink()
    found = catalog.model(at)
    assert (found.levels, found.head_levels, found.embedding_levels) == (4, 4, 4)


def test_a_folder_is_found_without_a_slash_and_no_mark_leaves_the_defaults(tmp_path, monkeypatch):
    layouts.unpacked(tmp_path / "mine", *layouts.drawn())
    monkeypatch.chdir(tmp_path)
    found = catalog.model("mine")
    assert (found.d_ff, found.levels, found.head_levels) == (SHAPE.d_ff, 3, 256)
    with pytest.raises(BadInput, match="unknown model 'nine'"):
        catalog.model("nine")
