"""Train the ternary language model and its full-precision twin, on a CPU or a GPU. Needs PyTorch, the extra `train`.

A decoder as BitNet b1.58 describes it: ternary projections scaled by their mean magnitude, activations of 8 bits scaled by
each token's largest, gradients straight through both, an extra norm before the two output projections, squared ReLU gates,
rotary positions and grouped-query heads. Sources: Ma et al. 2024 (arXiv:2402.17764) and the BitNet b1.58 2B4T report
(arXiv:2504.12285).

Every draw is keyed by seed and step, and the state is on disk, so an interrupted run goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pimllm_lib.analog.lm import layout, recipes
from pimllm_lib.analog.lm.checkpoint import Block as StoredBlock
from pimllm_lib.analog.lm.checkpoint import Matrix, write
from pimllm_lib.analog.lm.corpus import Corpus
from pimllm_lib.analog.lm.packing import ternarise
from pimllm_lib.analog.lm.recipes import EPS, THETA, Recipe
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder


class Projection(nn.Linear):
    """A linear layer without bias whose weights are ternary, or not."""

    def __init__(self, fan_in: int, fan_out: int, *, ternary: bool) -> None:
        """Take the sizes."""
        super().__init__(fan_in, fan_out, bias=False)
        self.ternary = ternary
        self.noise: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x times the weights; x has been through `eight_bits` where they are ternary."""
        if not self.ternary:
            return functional.linear(x, self.weight)
        weight = ternary(self.weight)
        return functional.linear(x, weight if self.noise is None else weight + weight.detach() * self.noise)


def ternary(weight: torch.Tensor) -> torch.Tensor:
    """Return weights rounded to -1, 0, 1 times their mean magnitude; the gradient passes as if they were not."""
    scale = weight.detach().abs().mean().clamp(min=EPS)
    rounded = (weight.detach() / scale).round().clamp(-1, 1) * scale
    return weight + (rounded - weight.detach())


def eight_bits(x: torch.Tensor) -> torch.Tensor:
    """Return activations rounded to 8 bits of their token's largest; the gradient passes as if they were not."""
    scale = 127 / x.detach().abs().amax(dim=-1, keepdim=True).clamp(min=EPS)
    rounded = (x.detach() * scale).round().clamp(-128, 127) / scale
    return x + (rounded - x.detach())


class Block(nn.Module):
    """One decoder block."""

    def __init__(self, shape: Decoder, *, ternary: bool) -> None:
        """Take the shape."""
        super().__init__()
        self.shape, self.quantise = shape, eight_bits if ternary else nn.Identity()
        sizes, widths = layout.sizes(shape), layout.widths(shape)
        self.projections = nn.ModuleDict({name: Projection(*size, ternary=ternary) for name, size in sizes.items()})
        order = ("input", "attention", "post", "ffn")  # as they run; sums over all gradients go by it
        self.norms = nn.ModuleDict({name: nn.RMSNorm(widths[name], eps=EPS) for name in order})

    def forward(self, x: torch.Tensor, rotation: torch.Tensor) -> Any:
        """Return the residual stream after the block; shapes (batch, tokens, d_model)."""
        shape, at = self.shape, self.projections
        h = self.quantise(self.norms["input"](x))
        q, k, v = (at[name](h).unflatten(-1, (-1, shape.head_dim)).transpose(1, 2) for name in "qkv")
        q, k = turn(q, rotation), turn(k, rotation)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        joined = self.norms["attention"](seen.transpose(1, 2).flatten(-2))
        x = x + at["o"](self.quantise(joined))
        h = self.quantise(self.norms["post"](x))
        inner = self.norms["ffn"](functional.relu(at["gate"](h)).square() * at["up"](h))
        return x + at["down"](self.quantise(inner))


def turn(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Return queries or keys turned by their position: halves of a head are the two coordinates."""
    one, two = x.chunk(2, dim=-1)
    cos, sin = rotation
    return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)


class Model(nn.Module):
    """The language model: tokens in, logits out. Embedding and head keep full precision, as in BitNet."""

    rotation: Any
    blocks: Any

    def __init__(self, recipe: Recipe) -> None:
        """Draw the first weights from the recipe's seed."""
        super().__init__()
        shape = recipe.decoder
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
            self.blocks = nn.ModuleList(Block(shape, ternary=recipe.ternary) for _ in range(shape.n_layers))
            self.norm = nn.RMSNorm(shape.d_model, eps=EPS)
            self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
            nn.init.normal_(self.embedding.weight, std=0.5)
            nn.init.normal_(self.head.weight, std=shape.d_model**-0.5)
        speeds = THETA ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.arange(recipe.window)[:, None] * speeds
        self.register_buffer("rotation", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    def forward(self, tokens: torch.Tensor) -> Any:
        """Return logits (batch, tokens, vocabulary)."""
        x, rotation = self.embedding(tokens), self.rotation[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x, rotation)
        return self.head(self.norm(x))


def batch(text: np.ndarray, recipe: Recipe, step: int, *, aligned: bool) -> torch.Tensor:
    """Return the tokens of one step, (batch, window + 1) or, aligned to whole documents, (batch, window)."""
    draw = np.random.PCG64(np.random.SeedSequence([recipe.seed, step])).random_raw(recipe.batch)
    if aligned:
        starts, length = draw % np.uint64(len(text) // recipe.window) * np.uint64(recipe.window), recipe.window
    else:
        starts, length = draw % np.uint64(len(text) - recipe.window), recipe.window + 1
    return torch.from_numpy(text[starts.astype(np.int64)[:, None] + np.arange(length)].astype(np.int64))


def rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step."""
    done = min(step / recipe.steps, 1.0)
    return recipe.rate * min((step + 1) / recipe.warmup, 0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass
class Run:
    """A model in training, with all that its next step depends on."""

    model: Model
    optimiser: torch.optim.Optimizer
    step: int
    losses: list[float]
    before: int = 0

    @classmethod
    def start(cls, recipe: Recipe, state: Path, device: str) -> Run:
        """Return the run as it stands on disk, or a new one, from the last state of the recipe it goes on from.

        Raises BadInput for the state of another recipe.
        """
        model = Model(recipe).to(device)
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        run = cls(model, torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95)), 0, [])
        if recipe.start:
            first = recipes.recipe(recipe.start)
            run.model.load_state_dict(_held(state.with_name(f"{recipe.start}.pt"), first, device)["model"])
            run.before = first.steps
        if state.is_file():
            held = _held(state, recipe, device)
            run.model.load_state_dict(held["model"])
            run.optimiser.load_state_dict(held["optimiser"])
            run.step, run.losses = held["step"], held["losses"]
        return run

    def _draw(self, recipe: Recipe) -> None:
        """Give the weights the noise of this step, drawn by seed and step."""
        if not recipe.noise:
            return
        key = np.random.SeedSequence([recipe.seed, self.step]).generate_state(1)[0]
        draw = torch.Generator().manual_seed(int(key))
        for at in (module for module in self.model.modules() if isinstance(module, Projection)):
            at.noise = recipe.noise * torch.randn(at.weight.shape, generator=draw).to(at.weight.device)

    def save(self, recipe: Recipe, state: Path) -> None:
        """Put the run on disk in one move, so that an interruption leaves the old state or the new."""
        held = {
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step,
            "losses": self.losses, "recipe": recipe.fingerprint(),
        }  # fmt: skip
        state.parent.mkdir(parents=True, exist_ok=True)
        torch.save(held, state.with_suffix(".new"))
        state.with_suffix(".new").replace(state)

    def advance(self, recipe: Recipe, corpus: Corpus) -> None:
        """Take one step."""
        skip = corpus.header
        device = next(self.model.parameters()).device
        tokens = batch(corpus.training, recipe, self.before + self.step, aligned=skip > 0).to(device)
        self._draw(recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(recipe, self.step)
        logits = self.model(tokens[:, :-1])[:, max(skip - 1, 0) :]
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, max(skip, 1) :].flatten())
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.losses.append(loss.item())


def _held(state: Path, recipe: Recipe, device: str) -> dict[str, Any]:
    """Return the state of a recipe. Raises BadInput for that of another."""
    held: dict[str, Any] = torch.load(state, map_location=device, weights_only=True)
    if held["recipe"] != recipe.fingerprint():
        raise BadInput(f"{state} is of another recipe; wanted it removed, or another folder for states")
    return held


def fit(
    recipe: Recipe, corpus: Corpus, state: Path, *, device: str = "cpu", every: int = 100, progress: Any = None
) -> Run:
    """Return the run after all steps of the recipe, going on from `state` where there is one, saved there every so often.

    progress: called with the number of steps done, at each.
    """
    run = Run.start(recipe, state, device)
    while run.step < recipe.steps:
        run.advance(recipe, corpus)
        if run.step % every == 0 or run.step == recipe.steps:
            run.save(recipe, state)
        if progress is not None:
            progress(run.step)
    return run


def export(run: Run, recipe: Recipe, folder: Path) -> None:
    """Write a trained model as a checkpoint: ternary weights packed, the rest in half precision."""
    model = run.model.cpu()

    def array(parameter: Any) -> np.ndarray:
        return np.asarray(parameter.detach())

    def block(at: Any) -> StoredBlock:
        weights = {name: np.ascontiguousarray(array(p.weight).T) for name, p in at.projections.items()}
        matrices = {
            name: Matrix(*ternarise(values), True) if recipe.ternary else Matrix(values, 1.0, False)
            for name, values in weights.items()
        }
        return StoredBlock(matrices, {name: array(norm.weight) for name, norm in at.norms.items()})

    write(
        folder, recipe.decoder, embedding=array(model.embedding.weight), blocks=map(block, model.blocks),
        final_norm=array(model.norm.weight), head=array(model.head.weight), theta=THETA, eps=EPS,
    )  # fmt: skip
