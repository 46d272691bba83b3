#!/usr/bin/env bash
# aihwkit-lightning: a model in evaluation mode has no output noise, whatever its configuration says.
#
# `forward.out_noise` of an inference configuration is documented as the noise at each output of a tile, so one would expect a layer
# to have it while it infers, as a layer of aihwkit has that takes a field of the same name. Here it is added in training mode alone.
# After `eval()` the same layer, with the same configuration, gives the same output for the same input, bit for bit, without a word,
# and a loss or an accuracy measured that way is that of a machine whose outputs are free of noise.
#
# It matters to whoever trains with noise and then reads an accuracy "on analog hardware" off the same model: it is the digital one,
# with converters and clipping at most. Export the model to aihwkit and evaluate there, or keep training mode while evaluating, with
# the gradients off; dropout and other layers need a look then.
#
# Seen with aihwkit-lightning 2.1.0, torch 2.13.0, numpy 2.3.5 on Python 3.11, on a processor. Fails when any of it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check aihwkit-lightning==2.1.0 torch==2.13.0 numpy==2.3.5
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from aihwkit_lightning.nn import AnalogLinear
from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

torch.manual_seed(0)


def spread(out_noise, mode):
    """Return the standard deviation of each output over 4096 equal inputs, the mean over outputs."""
    config = TorchInferenceRPUConfig()
    config.forward.out_noise = out_noise
    config.forward.out_bound = -1
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_from_data = 0
    layer = AnalogLinear(256, 64, bias=False, rpu_config=config)
    getattr(layer, mode)()
    with torch.no_grad():
        return layer(torch.randn(1, 256).repeat(4096, 1)).std(0).mean().item()


print("aihwkit-lightning", version("aihwkit-lightning"), "torch", version("torch"))
for noise in (0.0, 0.1, 1.0):
    trained, evaluated = spread(noise, "train"), spread(noise, "eval")
    print(f"out_noise {noise}: spread of the outputs {trained:.4f} in training, {evaluated:.4f} in evaluation")
    assert (trained > 0) == (noise > 0), "training has other noise now"
    assert evaluated == 0, "evaluation has noise now"
PYTHON
