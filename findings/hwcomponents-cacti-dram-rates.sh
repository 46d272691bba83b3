#!/usr/bin/env bash
# hwcomponents-cacti: DRAM classes read at rates that no such memory has, from 60 times too slow to 9 times too fast.
#
# `LPDDR4(width=32).read()` gives an energy and a throughput, reads a second of the width of the bus. One would expect their product
# to be near what the standard of that name reaches: LPDDR4 at 3200 MT/s moves 12.8 GB/s over 32 bits. It comes to 0.21 GB/s. The
# rate behind it, 50 Mi, looks like one in mega-transfers or in bytes of something else, and each class has its own: DDR3 over 64
# bits comes to 0.28 GB/s (6.4 at 800 MT/s, its slowest grade), HBM2 to 330 (256 at 2 GT/s), HBM3 to 7037 GB/s (819 at 6.4 GT/s:
# a rate a pin in bits, taken times eight). Energies a bit are what the source names, so a sum of energies looks right.
#
# It matters in decoding, where nothing counts as much as the bandwidth of the memory: a machine with LPDDR4 is found waiting sixty
# times too long, and one with HBM3 hardly ever. Set the bandwidth of a memory from its standard, and take the energy alone from here.
#
# Seen with hwcomponents-cacti 1.0.40, hwcomponents 1.0.114 on Python 3.12, which it needs. Fails when any of it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check hwcomponents-cacti==1.0.40 hwcomponents==1.0.114
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from hwcomponents_cacti import DDR3, HBM2, HBM3, LPDDR4

#: Class, width of the bus in bits, transfers a second of a pin in a common grade of the standard, rate over standard seen.
STANDARDS = ((LPDDR4, 32, 3.2e9, 0.0164), (DDR3, 64, 0.8e9, 0.0436), (HBM2, 1024, 2.0e9, 1.29), (HBM3, 1024, 6.4e9, 8.59))

print("hwcomponents-cacti", version("hwcomponents-cacti"), "hwcomponents", version("hwcomponents"))
for memory, width, transfers, seen in STANDARDS:
    read = memory(width).read()
    found, wanted = read.throughput * width / 8, transfers * width / 8
    print(
        f"{memory.__name__:6} {width:4} bits: {found / 1e9:8.3f} GB/s, standard {wanted / 1e9:5.1f} GB/s, ratio {found / wanted:.3g}; "
        f"{read.energy / width * 1e12:.2f} pJ/bit"
    )
    assert abs(found / wanted / seen - 1) < 0.01, f"{memory.__name__} has another rate now"
PYTHON
