"""Run products through the real SCALE-Sim, version 2 or 3, in an environment that has it.

Reads a JSON list of [m, k, n, rows, cols, dataflow] on stdin, prints a JSON list of objects with the simulator's own
report: compute cycles, and the words read from and written to SRAM and DRAM.
"""

import csv
import inspect
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from scalesim.scale_sim import scalesim

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 2048
FilterSramSzkB = 4096
OfmapSramSzkB = 2048
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {flow}
Bandwidth = 10
MemoryBanks = 1
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
#: Version 3 also reads a table of layouts, and without custom ones uses nothing of it.
WANTED = inspect.signature(scalesim).parameters


def simulate(m, k, n, rows, cols, flow):
    with TemporaryDirectory() as folder:
        config, topology = Path(folder, "config.cfg"), Path(folder, "product.csv")
        config.write_text(CONFIG.format(rows=rows, cols=cols, flow=flow))
        topology.write_text(f"Layer, M, N, K,\nproduct, {m}, {n}, {k},\n")
        files = {"config": str(config), "topology": str(topology), "layout": str(topology)}
        machine = scalesim(
            save_disk_space=True, verbose=False, input_type_gemm=True,
            **{name: file for name, file in files.items() if name in WANTED},
        )  # fmt: skip
        machine.run_scale(top_path=folder)
        (compute,) = _rows(folder, "COMPUTE_REPORT.csv")
        (access,) = _rows(folder, "DETAILED_ACCESS_REPORT.csv")
    return {
        "cycles": float(compute["Total Cycles"]) - float(compute["Stall Cycles"]),
        "inputs": float(access["SRAM IFMAP Reads"]),
        "weights": float(access["SRAM Filter Reads"]),
        "results": float(access["SRAM OFMAP Writes"]),
        "dram_inputs": float(access["DRAM IFMAP Reads"]),
        "dram_weights": float(access["DRAM Filter Reads"]),
        "dram_results": float(access["DRAM OFMAP Writes"]),
    }


def _rows(folder, name):
    with next(Path(folder).rglob(name)).open() as file:
        return [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(file)]


print(json.dumps([simulate(*product) for product in json.load(sys.stdin)]))
