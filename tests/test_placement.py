"""Tiles on the grid: hops against a brute-force search, limits, and models that do not fit."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib.core.errors import Note
from pimllm_lib.costs import placement


def l_shell_by_walking(n):
    """Return the first n places of the shells, one step at a time: along one edge and back along the other, in turns."""
    places, shell = [], 0
    while len(places) < n:
        leg = [(i, shell) for i in range(shell + 1)] + [(shell, i) for i in reversed(range(shell))]
        places += leg if shell % 2 else [(b, a) for a, b in leg]
        shell += 1
    return places[:n]


def places_by_hand(n, side, bank, walk):
    if walk == "l-shell":
        return l_shell_by_walking(n)
    if walk == "row-major":
        return [divmod(i, side) for i in range(n)]
    width = next(w for w in range(1, bank + 1) if w * w >= bank)
    height = next(h for h in range(1, bank + 1) if h * width >= bank)
    corners = l_shell_by_walking(-(-n // bank))
    inside = [divmod(i, width) for i in range(bank)]
    return [(r * height + a, c * width + b) for r, c in corners for a, b in inside][:n]


def by_brute_force(counts, side, bank, walk):
    """Return merge and transfer hops by trying every tile of a matrix as its aggregator, in row-major order."""
    places = places_by_hand(sum(counts), side, bank, walk)
    groups, start = [], 0
    for n in counts:
        groups.append(places[start : start + n])
        start += n
    result = [(0, 0)] * len(counts)
    present = [i for i, group in enumerate(groups) if group]
    for i, following in [*pairwise(present), *([(present[-1], None)] if present else [])]:
        best = None
        for r, c in sorted(groups[i]):
            merge = max(abs(r - a) + abs(c - b) for a, b in groups[i])
            onward = max(abs(r - a) + abs(c - b) for a, b in groups[following]) if following is not None else 0
            if best is None or merge + onward < sum(best):
                best = merge, onward
        result[i] = best
    return result


def hops(counts, side=64, bank=12, walk="l-shell"):
    found = placement.hops(list(counts), grid_side=side, tiles_per_bank=bank, walk=walk)
    return [(int(merge), int(onward)) for merge, onward in found]


@pytest.mark.parametrize("side", range(1, 13))
@pytest.mark.parametrize("walk", ["l-shell", "row-major", "banks"])
def test_hops_equal_a_brute_force_search_on_every_grid_up_to_12_x_12(side, walk):
    rng = np.random.default_rng(side)
    for _ in range(4):
        cuts = np.sort(rng.integers(0, side**2 + 1, 5))
        counts = np.diff([0, *cuts, side**2]).tolist()
        assert hops(counts, side, 6, walk) == by_brute_force(counts, side, 6, walk)


@pytest.mark.parametrize("seed", range(50))
def test_hops_equal_a_brute_force_search_on_random_lists(seed):
    rng = np.random.default_rng(1000 + seed)
    counts = rng.integers(0, 40, rng.integers(1, 8)).tolist()
    walk = ("l-shell", "row-major", "banks")[seed % 3]
    bank = int(rng.integers(1, 20))
    assert hops(counts, 20, bank, walk) == by_brute_force(counts, 20, bank, walk)


def test_the_hops_of_opt_6_7b_are_the_published_ones():
    # read off the public simulator output: the dummy layer on the first tile, then Q, K, V, X, FF1, FF2
    found = hops([1, 112, 64, 64, 64, 256, 256])[1:]
    assert found == [(10, 14), (13, 15), (15, 17), (17, 23), (23, 28), (28, 0)]


def test_one_tile_needs_no_hop():
    assert hops([1]) == [(0, 0)]


def test_a_matrix_without_tiles_is_left_out():
    assert hops([4, 0, 9]) == [hops([4, 9])[0], (0, 0), hops([4, 9])[1]]


def test_consecutive_tiles_of_the_l_shell_are_neighbours():
    places = placement.positions(400, side=20, bank=12, walk="l-shell")
    assert (np.abs(np.diff(places, axis=0)).sum(axis=1) == 1).all()
    assert len({tuple(place) for place in places.tolist()}) == 400


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 30))
def test_banks_never_overlap_and_have_no_end(counts, bank):
    n = sum(counts)
    places = placement.positions(n, side=1, bank=bank, walk="banks")
    assert len({tuple(place) for place in places.tolist()}) == n


def test_arrays_and_numbers_agree():
    many = placement.hops([np.array([[4, 9], [16, 1]]), 5], grid_side=8, tiles_per_bank=12, walk="l-shell")
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        first = [[4, 9], [16, 1]][i][j]
        assert [(merge[i, j], onward[i, j]) for merge, onward in many] == hops([first, 5], side=8)
    labelled = xr.DataArray([4, 9], dims="n")
    assert [
        merge.tolist() for merge, _ in placement.hops([labelled], grid_side=8, tiles_per_bank=12, walk="l-shell")
    ] == [[hops([4])[0][0], hops([9])[0][0]]]


@pytest.mark.parametrize("walk", ["l-shell", "row-major"])
def test_a_grid_grows_for_tiles_that_do_not_fit_and_says_so(walk):
    with pytest.warns(Note, match=r"needs 17 tiles: the grid of 4 x 4 is taken as 5 x 5, up to \d+ hops for a result"):
        grown = hops([10, 7], side=4, walk=walk)
    assert grown == hops([10, 7], side=5, walk=walk)
    assert hops([10, 7], side=4, walk="banks")
