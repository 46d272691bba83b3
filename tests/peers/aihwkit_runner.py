"""Run the same crossbars through aihwkit's torch tile and through our engine, in an environment that has both.

Reads a JSON object on stdin: fan_in, fan_out, tokens, lsb (step of the ADC, in on-cell currents), noise (standard deviation
of the current it sees) and repeats (of the timing). Ternary weights lie in tiles of 256 x 256, whole activations of
-127 to 127 enter by one pass of an 8-bit DAC, an 8-bit ADC reads each tile. Prints a JSON object:

difference: the largest one between our result, by numpy and by torch, and aihwkit's, both without noise; clipped: the same
where ours counts no lower than aihwkit's lowest code, beyond which two's complement has one more (it says something for
one row of tiles); spread: standard deviation of what noise adds to a result; seconds: of one product, the shortest of
those taken in turns, none without repeats.
"""

import json
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

from pimllm_lib import catalog
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import moved, multiply
from pimllm_lib.hardware import Devices, Readout

TILE, BITS = 256, 8
LARGEST = (1 << (BITS - 1)) - 1


def theirs(weights, lsb, noise):
    """Return aihwkit's layer: its converters have 2 * 127 steps between the bounds, both of which have a code."""
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = TILE
    forward = config.forward
    forward.inp_bound, forward.out_bound = float(LARGEST), lsb * LARGEST
    forward.inp_res = forward.out_res = 1 / (2 * LARGEST)
    forward.out_noise = noise
    forward.noise_management, forward.bound_management = NoiseManagementType.NONE, BoundManagementType.NONE
    layer = AnalogLinear(*weights.shape, bias=False, rpu_config=config)
    layer.set_weights(torch.from_numpy(weights.T.astype(np.float32)))
    return layer.eval()


def ours(weights, lsb, noise):
    bar = catalog.part("crossbar-256")
    bar = replace(bar, dac=replace(bar.dac, bits=BITS), adc=replace(bar.adc, bits=BITS))
    assert (bar.rows, bar.cols) == (TILE, TILE)
    devices = Devices(name="noisy", output_noise=noise)
    return program(weights, crossbar=bar, devices=devices, readout=Readout(name="fixed", range="fixed", lsb=lsb))


def ways(weights, x, lsb, noise):
    """Return each way to the product of weights and activations x, as a call that gives a numpy array."""
    layer, on, tensor = theirs(weights, lsb, noise), ours(weights, lsb, noise), torch.from_numpy(x)
    there = moved(on, tensor)
    return {
        "aihwkit": lambda: layer(tensor).numpy(),
        "numpy": lambda: multiply(on, x),
        "torch": lambda: multiply(there, tensor).numpy(),
    }


def shortest(calls, repeats):
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main(fan_in, fan_out, tokens, lsb, noise, repeats):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    weights = rng.integers(-1, 2, (fan_in, fan_out)).astype(np.int8)
    x = rng.integers(-LARGEST, LARGEST + 1, (tokens, fan_in)).astype(np.float32)
    with torch.inference_mode():
        read = {name: call() for name, call in ways(weights, x, lsb, 0.0).items()}
        calls = ways(weights, x, lsb, noise)
        peer, lowest = read["aihwkit"], np.float32(-lsb * LARGEST)
        return {
            "difference": {name: float(np.abs(read[name] - peer).max()) for name in ("numpy", "torch")},
            "clipped": float(np.abs(np.maximum(read["numpy"], lowest) - peer).max()),
            "spread": {name: float((call() - read[name]).std()) for name, call in calls.items()},
            "seconds": shortest(calls, repeats) if repeats else {},
        }


print(json.dumps(main(**json.load(sys.stdin))))
