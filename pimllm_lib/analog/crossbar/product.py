"""The matrix-vector product that a crossbar gives, by two engines behind one function.

*Folded* multiplies once with what the cells hold. It is exact where conversion is ideal: all else is linear, and the
Gaussian noise of many reads is one draw of their joint variance. *Per plane* does what the machine does, pass by pass and
tile by tile: sum, convert, shift, add. It is always exact. Where sums are whole numbers, two passes share one product, or
bits are counted (`popcount`), to the same result.

The same code runs on numpy arrays and, through the array API, on torch tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from pimllm_lib.analog.crossbar import popcount
from pimllm_lib.analog.crossbar.cells import Line, Programmed
from pimllm_lib.analog.crossbar.draws import generators
from pimllm_lib.analog.crossbar.readout import Converter, converter, largest_sum, require_held, weights_and_passes
from pimllm_lib.core.errors import BadInput, unknown

ENGINES = ("auto", "folded", "per-plane")
#: Tokens that share one draw of noise: draws do not depend on how tokens are split into calls.
NOISE_BLOCK = 32
#: Sums converted at a time: what a core's cache holds. Rows of a product that is as fast as a tall one.
BLOCK, TALL = 1 << 18, 512
#: float32 holds every whole number up to here.
WHOLE = 1 << 24


def multiply(
    on: Programmed, x: Any, *, act_bits: int = 8, reach: float | None = None, engine: str = "auto", first: int = 0
) -> Any:
    """Return activations times a programmed matrix as the crossbar gives it: float32 (tokens, fan_out).

    Where groups of inputs have scales, each is multiplied by itself, and the sum over groups, in their order, is scaled.

    x: whole activations (tokens, fan_in), integers or floats without fraction; reach: full scale found by
    `calibration.full_scale`, for a readout that asks for one; engine: "folded", "per-plane", or "auto", which folds where
    that is exact; first: number of the first token, which says what noise it gets.

    Raises BadInput for another shape, an activation of too many bits, more inputs than float32 sums hold, and for
    "folded" where conversion is not ideal.
    """
    check(on, x, act_bits, engine)
    adc = converter(on, act_bits, reach)
    if on.scales is None:
        return read(on, x, act_bits, adc, engine, first)
    xp = array_namespace(x)
    out = xp.zeros((len(x), on.ideal.shape[1]), dtype=xp.float32, device=device(x))
    for number, (rows, group) in enumerate(on.groups):
        out += on.scales[number] * read(group, x[:, rows], act_bits, adc, engine, first)
    return out


def read(on: Programmed, x: Any, act_bits: int, adc: Converter | None, engine: str, first: int) -> Any:
    """Return the product of inputs that are summed as they are."""
    quiet = on.exact and not on.devices.output_noise
    plain = adc is None or (quiet and adc.is_lossless(largest_sum(on, act_bits)))
    if engine == "folded" and not plain:
        raise BadInput("engine folded is exact for ideal conversion only; wanted per-plane or auto")
    if plain and engine != "per-plane":
        out = _folded(on, x, act_bits, first)
    elif quiet and adc is not None and is_numpy_array(x) and popcount.pays(len(x)) and on.masks is not None:
        out = _counted(on, on.masks, x, act_bits, adc)
    else:
        out = _per_plane(on, x, act_bits, adc, first, quiet=quiet)
    if on.gain != 1:
        out *= on.gain
    if on.input_gain:
        xp = array_namespace(x)
        out += on.input_gain * xp.sum(xp.astype(x, xp.float32), axis=1, keepdims=True)
    return out


def moved(on: Programmed, like: Any) -> Programmed:
    """Return a programmed matrix in the namespace and on the device of another array."""
    xp, where = array_namespace(like), device(like)

    def move(array: Any) -> Any:
        return None if array is None else xp.asarray(array, device=where)

    lines = tuple(Line(move(line.weights), line.sign, move(line.squares)) for line in on.lines)
    return replace(on, ideal=move(on.ideal), lines=lines, scales=move(on.scales))


def check(on: Programmed, x: Any, act_bits: int, engine: str) -> None:
    """Raise BadInput for what `multiply` refuses."""
    fan_in = on.ideal.shape[0]
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if x.ndim != 2 or x.shape[1] != fan_in:
        raise BadInput(f"activations have the shape {tuple(x.shape)}; wanted tokens x {fan_in}")
    require_held(x, act_bits, on.readout.encoding)
    if on.span << (act_bits - 1) > WHOLE:
        raise BadInput(f"a matrix has {on.span} inputs; wanted at most {WHOLE >> (act_bits - 1)} at {act_bits} bits")


def _folded(on: Programmed, x: Any, act_bits: int, first: int) -> Any:
    xp = array_namespace(x)
    real = xp.astype(x, xp.float32, copy=False)
    out = None
    for number, line in enumerate(on.lines):
        part = xp.matmul(real, line.weights)
        if on.devices.reading or on.devices.output_noise:
            part += _joint_noise(on, line, x, act_bits, first, number)
        part = part if line.sign == 1 else line.sign * part
        out = part if out is None else out + part
    return out


def _joint_noise(on: Programmed, line: Line, x: Any, act_bits: int, first: int, number: int) -> Any:
    """Return one draw for all reads of a line: variances of passes and tiles add, each by the square of its weight."""
    power, floor = variances(on, x, act_bits)
    xp, fan_out = array_namespace(x), line.weights.shape[1]
    draw = next(noises([on], "folded", (fan_out,), first, len(x), number))
    return deviation(on, line.squares, power, floor) * xp.asarray(draw, device=device(x))


def variances(on: Programmed, x: Any, act_bits: int) -> tuple[Any, float]:
    """Return what activations multiply the squares of conductances with, and the variance of converters' own noise."""
    xp, half = array_namespace(x), 1 << (act_bits - 1)
    weights, passes = weights_and_passes(on, np.arange(-half, half), act_bits)  # of every activation, the lowest first
    tiles = -(-on.ideal.shape[0] // on.crossbar.rows)
    floor = on.devices.output_noise**2 * tiles * sum(w * w for w in weights)
    if not on.devices.reading:
        return None, floor
    squares = sum(w * w * np.square(p, dtype=np.float64) for w, p in zip(weights, passes, strict=True))
    place = xp.reshape(xp.astype(x, xp.int64) + half, (-1,))
    return xp.reshape(xp.take(xp.asarray(np.float32(squares), device=device(x)), place), x.shape), floor


def deviation(on: Programmed, squares: Any, power: Any, floor: float) -> Any:
    """Return the standard deviation of currents whose inputs have such squares of conductances."""
    if power is None:
        return floor**0.5
    xp = array_namespace(power)
    variance = xp.matmul(power, squares)
    variance *= on.devices.reading**2
    variance += floor
    return np.sqrt(variance, out=variance) if is_numpy_array(variance) else xp.sqrt(variance)


def _blocks(first: int, count: int, length: int = NOISE_BLOCK) -> Iterator[tuple[int, slice, slice]]:
    """Yield number, part used and place of each block of tokens, of `count` from `first` on: those that share draws."""
    for block in range(first // length, -(-(first + count) // length)):
        origin = block * length
        start, stop = max(first, origin), min(first + count, origin + length)
        yield block, slice(start - origin, stop - origin), slice(start - first, stop - first)


def noises(
    several: Sequence[Programmed], purpose: str, shape: tuple[int, ...], first: int, count: int, *where: int
) -> Iterator[np.ndarray]:
    """Yield the noise of each matrix, float32 (count, *shape), for tokens from the first on; the last is overwritten."""
    blocks, found = list(_blocks(first, count)), np.empty((count, *shape), dtype=np.float32)
    places, layers = [(block, *where) for block, _, _ in blocks], [on.layer for on in several]
    sources = iter(generators(several[0].seed, layers, purpose, places))
    for _ in several:
        for (_, take, place), source in zip(blocks, sources, strict=False):
            if take == slice(0, NOISE_BLOCK):
                source.standard_normal(dtype=np.float32, out=found[place])
            else:
                found[place] = source.standard_normal((NOISE_BLOCK, *shape), dtype=np.float32)[take]
        yield found


def _counted(on: Programmed, held: tuple[np.ndarray, np.ndarray], x: np.ndarray, act_bits: int, adc: Converter) -> Any:
    most = int(largest_sum(on, act_bits))
    table = adc.convert(np.arange(-most, most + 1, dtype=np.float32) * np.float32(1 / adc.lsb))
    weights, passes = weights_and_passes(on, x, act_bits)
    codes = popcount.product(passes, held, on.crossbar.rows, table, weights)
    return codes * np.float32(adc.lsb * on.lines[0].sign)


def _per_plane(on: Programmed, x: Any, act_bits: int, adc: Converter | None, first: int, *, quiet: bool) -> Any:
    xp, fan_out, largest = array_namespace(x), on.ideal.shape[1], largest_sum(on, act_bits)
    out = xp.zeros((len(x), fan_out), dtype=xp.float32, device=device(x))
    weights, passes = weights_and_passes(on, x, act_bits)
    noisy = bool(on.devices.reading or on.devices.output_noise)
    tall = max(TALL // len(passes), 1)  # tokens whose passes make a product tall enough to be fast
    blocks = _blocks(first, len(x)) if noisy else _blocks(0, len(x), tall)
    shift = _shift(largest) if quiet and len(passes) > 1 and _fits(largest) else 0.0
    clip = not (shift and adc is not None and adc.reaches(largest))
    for block, take, place in blocks:
        shares = [xp.astype(p[place], xp.float32) for p in passes]
        products = (len(shares) + 1) // 2 if shift else len(shares)
        width = fan_out if noisy else max(BLOCK // (products * (place.stop - place.start)), 64)
        for left in range(0, fan_out, width):
            cols = slice(left, min(left + width, fan_out))
            for number, line in enumerate(on.lines):
                read = _sums(on, line, shares, cols, adc, (block, take, number), shift, clip)
                total = sum(w * r for w, r in zip(weights, read, strict=True))
                out[place, cols] += (line.sign * (adc.lsb if adc else 1.0)) * total
    return out


def _shift(largest: float) -> float:
    """Return what the sums of one pass are divided by to stand behind the point of another's."""
    return float(1 << int(2 * largest).bit_length())


def _fits(largest: float) -> bool:
    """Return whether the sums of two passes fit side by side into a float32."""
    return _shift(largest) * (largest + 1) <= WHOLE


def _sums(
    on: Programmed, line: Line, shares: list[Any], cols: slice, adc: Converter | None,
    draw: tuple[int, slice, int], shift: float, clip: bool,
) -> list[Any]:  # fmt: skip
    """Return what is read in each pass, converted tile by tile and then added.

    shift: that of sums which are whole, where two passes share a product, one before and one behind its point; else 0.
    """
    xp, tokens, per_lsb = array_namespace(shares[0]), len(shares[0]), 1 / adc.lsb if adc is not None else 1.0
    even, odd = (shares[0::2], shares[1::2]) if shift else (shares, [])
    stacked = xp.concat([a / shift + b for a, b in zip(even, odd, strict=False)] + even[len(odd) :])
    behind, totals = len(odd) * tokens, list[Any]()
    for tile, top in enumerate(range(0, line.weights.shape[0], on.crossbar.rows)):
        rows = slice(top, top + on.crossbar.rows)
        current, parts = xp.matmul(stacked[:, rows], line.weights[rows, cols]), []
        if on.devices.reading or on.devices.output_noise:
            current += _read_noise(on, line, stacked, rows, cols, draw, tile)
        if shift:
            whole, fraction = xp.round(current), current[:behind]
            fraction -= whole[:behind]
            fraction *= shift * per_lsb
            current, parts = whole, [fraction]
        if per_lsb != 1:
            current *= per_lsb
        parts = [part if adc is None else adc.convert(part, clip=clip) for part in (current, *parts)]
        for total, part in zip(totals, parts, strict=False):
            total += part
        totals = totals or parts
    after, *before = ([part[at : at + tokens] for at in range(0, len(part), tokens)] for part in totals)
    if not shift:
        return after
    return [part for pair in zip(*before, after, strict=False) for part in pair] + after[len(odd) :]


def _read_noise(
    on: Programmed, line: Line, stacked: Any, rows: slice, cols: slice, draw: tuple[int, slice, int], tile: int
) -> Any:
    """Return the noise of one tile's currents, of its own in each pass."""
    xp, (block, take, number) = array_namespace(stacked), draw
    tokens, outputs = take.stop - take.start, cols.stop - cols.start
    shape, first = (len(stacked) // tokens, outputs), block * NOISE_BLOCK + take.start
    noise = next(noises([on], "read", shape, first, tokens, number, tile))
    noise = np.ascontiguousarray(noise.transpose(1, 0, 2)).reshape(len(stacked), outputs)
    power, squares = (stacked[:, rows] ** 2, line.squares[rows, cols]) if on.devices.reading else (None, None)
    return deviation(on, squares, power, on.devices.output_noise**2) * xp.asarray(noise, device=device(stacked))
