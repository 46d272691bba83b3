"""What CACTI 7 says of an SRAM: compile the source that the wheel of hwcomponents-cacti carries, and run it.

The programs in the wheels, this one and NeuroSim, ask for a C library newer than many machines have, so they are made
anew, in a folder of the caller's.

    .venv-constants/bin/python tests/peers/cacti.py > data/peers/cacti-sram.csv
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

CELLS = ("hp", "lop", "lstp")
KELVIN = tuple(range(300, 401, 10))
KIB = 1024
#: (bytes, node in nm, bits of the port): the buffer table, and memories as large as the on-chip SRAM and its three parts.
SIZES = (*((kib * KIB, 90, 64) for kib in (2, 4, 8, 16, 32, 64)), (8 * KIB**2, 45, 64),
         *((mib * KIB**2, 45, 256) for mib in (2, 4, 8)))  # fmt: skip
COLUMNS = ("size_bytes", "node_nm", "port_bits", "cell", "temperature_k", "access_s", "read_j", "write_j", "leakage_w",
           "gate_leakage_w", "area_m2")  # fmt: skip
#: What the settings of the wheel leave open; they stand for one bank with one port that reads and writes.
ASKED = """-size (bytes) {size}
-read-write port 1
-block size (bytes) {block}
-technology (u) {micron}
-output/input bus width {bits}
-cache type "ram"
-UCA bank count 1
-associativity 1
-tag size (b) "default"
-power supply "default"
"""
#: What is read from what CACTI prints, and what turns it into SI.
SAID = {
    "access_s": (r"Access time \(ns\): ([\d.e+-]+)", 1e-9),
    "read_j": (r"Total dynamic read energy per access \(nJ\): ([\d.e+-]+)", 1e-9),
    "write_j": (r"Total dynamic write energy per access \(nJ\): ([\d.e+-]+)", 1e-9),
    "leakage_w": (r"Total leakage power of a bank \(mW\): ([\d.e+-]+)", 1e-3),
    "gate_leakage_w": (r"Total gate leakage power of a bank \(mW\): ([\d.e+-]+)", 1e-3),
}


def build(installed, folder):
    """Copy the wheel's source to a folder, compile it, and return the copy."""
    source = Path(folder) / "hwcomponents_cacti"
    shutil.copytree(installed, source)
    shutil.rmtree(source / "cacti" / "obj_dbg", ignore_errors=True)
    (source / "cacti" / "cacti").unlink(missing_ok=True)
    _make(source / "cacti", "dbg")
    return source


def build_neurosim(installed, folder):
    """Copy and compile the source of NeuroSim in a wheel, with the files that replace some of it; return the program."""
    source = Path(folder) / "neurosim"
    shutil.copytree(Path(installed) / "DNN_NeuroSim_V1.3" / "Inference_pytorch" / "NeuroSIM", source)
    shutil.copytree(Path(installed) / "drop_in", source, dirs_exist_ok=True)
    _make(source)
    return source / "main"


def _make(folder, *what):
    made = subprocess.run(["make", "-j2", *what], cwd=folder, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(made.stderr[-2000:])


def sram(source, size, node, bits, cell, kelvin):
    """Return one memory by column: leakage holds that of gates, which CACTI prints apart."""
    settings = (source / "default_cfg.cfg").read_text().replace("itrs-lstp", f"itrs-{cell}")
    settings = settings.replace("temperature (K) 300", f"temperature (K) {kelvin}")
    asked = source / f"{size}-{node}-{bits}-{cell}-{kelvin}.cfg"
    asked.write_text(ASKED.format(size=size, block=bits // 8, micron=node / 1000, bits=bits) + settings)
    said = subprocess.run(["./cacti", "-infile", asked], cwd=source / "cacti", capture_output=True, text=True).stdout
    got = {name: float(re.search(pattern, said)[1]) * unit for name, (pattern, unit) in SAID.items()}
    height, width = map(float, re.search(r"Cache height x width \(mm\): ([\d.]+) x ([\d.]+)", said).groups())
    got |= {"area_m2": height * width * 1e-6, "leakage_w": got["leakage_w"] + got["gate_leakage_w"]}
    return dict(zip(COLUMNS, (size, node, bits, cell, kelvin), strict=False)) | got


def table(source, sizes=SIZES, cells=CELLS, kelvin=KELVIN, workers=2):
    """Return a row for each size, kind of cells and temperature."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda case: sram(source, *case[0], *case[1:]), product(sizes, cells, kelvin)))


if __name__ == "__main__":
    import hwcomponents_cacti

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for row in table(build(hwcomponents_cacti.__path__[0], folder)):
            out.writerow([f"{x:.6g}" if isinstance(x, float) else x for x in row.values()])
