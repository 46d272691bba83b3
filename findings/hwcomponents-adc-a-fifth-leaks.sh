#!/usr/bin/env bash
# hwcomponents-adc: the energy of a conversion is four fifths of a conversion, and the last fifth is drawn without one.
#
# `ADC.convert()` and `ADC.get_energy()` are both documented as the energy of one conversion, so one would expect them to agree. They
# differ by a fifth: `convert` is 0.8 of `get_energy`, and what is left over is made the converter's leakage, at the power it would
# have at full throughput, for every resolution and node. The source calls the share an assumption; the documentation does not
# mention it. A converter that works all the time comes to the right sum. One that waits does not: the regression behind the package
# is over the energy of converters at work, and says nothing of what they draw while they stand still.
#
# It matters where converters wait for most of a token, as those of weights that stay in crossbars do, one layer at a time: 8 bits at
# 1.28 GS/s draw 0.94 mW all along, and at a use of one in a hundred a conversion comes to 26 times `convert`. Whether an analog
# machine beats a digital one then hangs on an assumed fifth. Take `get_energy` for a conversion, and state the leakage as a guess.
#
# Seen with hwcomponents-adc 1.0.21, hwcomponents 1.0.114 on Python 3.12, which it needs. Fails when any of it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3.12 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check hwcomponents-adc==1.0.21 hwcomponents==1.0.114
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
from math import isclose

from hwcomponents_adc import ADC

print("hwcomponents-adc", version("hwcomponents-adc"), "hwcomponents", version("hwcomponents"))
print("convert:   ", " ".join(ADC.convert.__doc__.split()))
print("get_energy:", " ".join(ADC.get_energy.__doc__.split())[:58])
for bits, node, rate in ((4, 45e-9, 128e6), (8, 45e-9, 1.28e9), (8, 32e-9, 1.28e9), (10, 45e-9, 1e8)):
    adc = ADC(n_bits=bits, tech_node=node, throughput=rate)
    convert, whole, leak = adc.convert().energy, adc.get_energy(), adc.leak_power
    seldom = (convert + leak / (rate / 100)) / convert
    print(
        f"{bits:2} bit, {node * 1e9:.0f} nm, {rate / 1e6:4.0f} MS/s: convert {convert * 1e12:.3f} pJ, get_energy {whole * 1e12:.3f} pJ, "
        f"leakage {leak * 1e3:.4f} mW; used one time in a hundred, {seldom:.1f} x convert"
    )
    assert isclose(convert, 0.8 * whole, rel_tol=1e-12), "convert is another share now"
    assert isclose(leak, 0.2 * whole * rate, rel_tol=1e-12), "leakage is another share now"
PYTHON
