#!/usr/bin/env bash
# SCALE-Sim 3: with `InterfaceBandwidth = USER`, `Bandwidth` limits what is written, and not what is read.
#
# One would expect the mode in which a user gives the bandwidth to read inputs and weights at that bandwidth, as the second
# version did: a matrix-vector product, which reads every weight once, should then stall some thousand times longer at one word a
# cycle than at 1024. In 3.0.0 both take the same cycles, with the same stalls. Results go out at `Bandwidth`; inputs and weights
# come in at `IfmapSRAMBankBandwidth` and `FilterSRAMBankBandwidth`, keys of the section `layout`, which by their name belong to
# on-chip banks. Only these change the stalls, and the report's "DRAM BW" of weights follows them.
#
# It matters wherever a machine is compared by its off-chip memory, as in decoding, where weights and cached keys and values are
# read once a token: a sweep over `Bandwidth` shows that memory plays no part, and a slow memory goes unseen. Set the bandwidths
# of the banks to that of the memory as well, or take CALC and bound the time by words over bandwidth.
#
# Seen with scalesim 3.0.0, numpy 2.3.5 on Python 3.11. Fails when any of it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check scalesim==3.0.0 numpy==2.3.5
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import csv
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from scalesim.scale_sim import scalesim

MACHINE = """[general]
run_name = run
[architecture_presets]
ArrayHeight = 32
ArrayWidth = 32
IfmapSramSzkB = 64
FilterSramSzkB = 64
OfmapSramSzkB = 64
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = os
Bandwidth = {bandwidth}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {bank}
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = {bank}
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = USER
UseRamulatorTrace = False
"""


def reported(folder, name):
    (path,) = Path(folder).rglob(name)
    with path.open(newline="") as file:
        head, row = csv.reader(file, skipinitialspace=True)
    return dict(zip(head, row))


def stalls(bandwidth, bank):
    """Return the stalls of one vector times 256 x 512 weights, and the rates of weights and results."""
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        machine, product, layout = (Path(folder, name) for name in ("machine.cfg", "product.csv", "layout.csv"))
        machine.write_text(MACHINE.format(bandwidth=bandwidth, bank=bank))
        product.write_text("Layer, M, N, K,\nproduct, 1, 512, 256,\n")
        layout.write_text("Layer,\n")
        scalesim(
            save_disk_space=True, verbose=False, config=str(machine), topology=str(product), layout=str(layout),
            input_type_gemm=True,
        ).run_scale(top_path=folder)
        rates = reported(folder, "BANDWIDTH_REPORT.csv")
        return (
            int(reported(folder, "COMPUTE_REPORT.csv")["Stall Cycles"]),
            round(float(rates["Avg FILTER DRAM BW"])), round(float(rates["Avg OFMAP DRAM BW"])),
        )


print("scalesim", version("scalesim"), "numpy", version("numpy"))
seen = {(bandwidth, bank): stalls(bandwidth, bank) for bandwidth, bank in ((1, 10), (1024, 10), (1, 100), (1024, 100))}
for (bandwidth, bank), (stalled, weights, results) in seen.items():
    print(f"Bandwidth {bandwidth:4}, banks {bank:3}: {stalled:6} cycles stalled, weights at {weights:3}, results at {results:4}")
for bank in (10, 100):
    slow, fast = seen[1, bank], seen[1024, bank]
    assert slow[0] == fast[0] > 0 and slow[1] == fast[1] == bank, "Bandwidth limits reads now"
    assert slow[2] == 1 < fast[2], "Bandwidth no longer limits results"
assert seen[1024, 100][0] < seen[1024, 10][0] / 2, "the banks limit reads no more"
PYTHON
