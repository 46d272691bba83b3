"""The crossbar tile against MNSIM 2.0 itself: MNSIM_DIR=FOLDER make test MARK=peer.

It has no licence, so no part of it is here, and whoever has its folder says where.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pimllm_lib import catalog
from pimllm_lib.core.conventions import AS_PUBLISHED
from pimllm_lib.costs import crossbar, placement
from pimllm_lib.engines.crossbars import counted

PIM = catalog.parts["pim-published"]
TILE = counted(PIM.tile, AS_PUBLISHED)
RUNNER = Path(__file__).parent / "peers" / "mnsim_runner.py"
SHAPES = [
    (4096, 4096), (3000, 1000), (512, 50257), (300, 77), (5000, 13), (7168, 1024), (257, 257), (13, 5000),
]  # fmt: skip
#: Area of the pooling unit that each of its tiles has and none of ours, in um2.
POOLING_UM2 = 91917.1562

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif("MNSIM_DIR" not in os.environ, reason="MNSIM_DIR does not say where MNSIM 2.0 is"),
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What the simulator says of each shape; it runs where it can write nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", RUNNER, Path(os.environ["MNSIM_DIR"]).resolve()],
        input=json.dumps(SHAPES), capture_output=True, text=True, check=True, cwd=tmp_path_factory.mktemp("mnsim"),
    )  # fmt: skip
    return dict(zip(SHAPES, json.loads(done.stdout.splitlines()[-1]), strict=True))


def modelled(fan_in, fan_out):
    """Return the same report by this model, for the middle one of the same three layers."""
    sizes = [(8, 8), (fan_in, fan_out), (fan_out, 64)]
    layouts = [crossbar.layout(*size, tile=TILE, act_bits=8) for size in sizes]
    where = {"grid_side": PIM.grid_side, "tiles_per_bank": PIM.tiles_per_bank, "walk": "l-shell"}
    merge, onward = (float(n) for n in placement.hops([on.tiles for on in layouts], **where)[1])
    need = list(zip(sizes, layouts, strict=True))
    buffers = {
        "input_buffer": max(crossbar.input_buffer_size(k, on.crossbars, 8) for (k, _), on in need),
        "output_buffer": max(crossbar.output_buffer_size(n, on.tiles) for (_, n), on in need),
    }
    on = layouts[1]
    times = crossbar.latency(
        on, tile=TILE, act_bits=8, network_bps=PIM.network_bps, fan_out=fan_out, merge_hops=merge, transfer_hops=onward,
        reread_output=True,
    )  # fmt: skip
    area = {name: value * 1e12 for name, value in crossbar.area(on, tile=TILE, **buffers).items()}
    digital = sum(area.pop(name) for name in ("registers", "shift_add", "joint"))
    area |= {"digital": digital, "pooling": on.tiles * POOLING_UM2}
    joules = crossbar.energy(on, tile=TILE, act_bits=8, **buffers)
    return {
        "hops": [merge, onward],
        "time_ns": {name: value * 1e9 for name, value in times.items()},
        "energy_nj": {name: value * 1e9 for name, value in joules.items()},
        "area_um2": area | {"total": sum(area.values())},
    }


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "{}x{}".format(*shape))
@pytest.mark.parametrize("what", ["hops", "time_ns", "energy_nj", "area_um2"])
def test_every_component_equals_that_of_mnsim(reports, shape, what):
    assert modelled(*shape)[what] == pytest.approx(reports[shape][what], rel=1e-9, abs=1e-12)
