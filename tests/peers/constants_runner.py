"""Print data/peers/constants.csv or accelforge.csv: what hwcomponents and AccelForge say of parts of our kind.

Runs in the environment of `make test MARK=constants`. NEUROSIM is the program, compiled from the source in the wheel: the
one in the wheel asks for a C library newer than many machines have.

    .venv-constants/bin/python tests/peers/constants_runner.py NEUROSIM constants > data/peers/constants.csv
"""

import csv
import os
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

#: The cell of the published simulations, in the form that NeuroSim reads; the rest is that of its example of RRAM.
CELL = """-MemCellType: RRAM
-DeviceRoadmap -1LP 1HP 2LSTP:  2
-CellArea (F^2):  40
-CellAspectRatio: 1
-CellReadLeakEnergyMultiplier: 1
-CellWriteEnergyMultiplier: 1
-CellCapacitanceMultiplier: 0.25
-CellCapacitanceAdjust (F): 0
-AccessCMOSWidth (F): 1
-ReadMode: voltage
-SRAMCellNMOSWidth (F): 2
-SRAMCellPMOSWidth (F): 2
-MinSenseVoltage (mV): 20
-ResistanceOn (ohm): 1e4
-ResistanceOff (ohm): 1e6
-SetVoltage (V): 3
-SetPulse (ns): 10
-ReadVoltage (V): 0.15
-ReadPulse (ns): 3.16
-AccessType: CMOS
-AccessTransistorResistance (ohm): 1000
-AccessVoltage (V): 0.15
"""
NODE, PULSE, SIDE = 45e-9, 3.16e-9, 256
#: Two conversions of 7.8 ns, the read, and what is left for registers.
SLICE = 31e-9


def converters():
    """Yield ADCs by resolution, rate and node, and those that the library has of ISAAC."""
    from hwcomponents_adc import ADC
    from hwcomponents_library.library.isaac import IsaacADC, IsaacDAC

    wanted = [(bits, 1.28e9, 45) for bits in (4, 6, 8, 10)] + [(8, 1.28e9, 32), (8, 1.28e8, 45)]
    for bits, rate, node in wanted:
        adc = ADC(n_bits=bits, tech_node=node * 1e-9 if node != 45 else NODE, throughput=rate)
        said = {"convert_j": adc.get_energy(), "leakage_w": adc.leak_power, "area_m2": adc.area}
        yield f"adc-{bits}bit-{rate / 1e6:.0f}-{node}nm", "adc", f"{bits} bit, {rate / 1e6:.0f} MS/s, {node} nm", said
    for node in (32, 45):
        adc = IsaacADC(tech_node=node * 1e-9)
        said = {"convert_j": adc.convert().energy, "convert_s": adc.convert().latency, "leakage_w": adc.leak_power,
                "area_m2": adc.area}  # fmt: skip
        yield f"isaac-adc-{node}nm", "library", f"ADC of ISAAC, 8 bit, {node} nm", said
    dac = IsaacDAC(tech_node=32e-9)
    yield "isaac-dac", "library", "DAC of ISAAC, 1 bit, 32 nm, a whole read", {"convert_j": dac.convert().energy}


def digital():
    """Yield arithmetic at 45 nm."""
    from hwcomponents_library.library.aladdin import AladdinAdder, AladdinIntMAC, AladdinMultiplier, AladdinRegister
    from hwcomponents_neurosim import Adder, AdderTree

    mac = AladdinIntMAC(tech_node=NODE, adder_width=32, multiplier_width=8)
    said = {"compute_j": mac.compute().energy, "leakage_w": mac.leak_power, "area_m2": mac.area}
    yield "aladdin-mac", "library", "AladdinIntMAC, multiplier 8, adder 32 bit, 45 nm", said
    for name, one, wide in (("multiplier", AladdinMultiplier, 8), ("adder", AladdinAdder, 32)):
        unit = one(tech_node=NODE, width=wide)
        yield f"aladdin-{name}", "library", f"{one.__name__}, {wide} bit, 45 nm", {"compute_j": unit.read().energy}
    register = AladdinRegister(tech_node=NODE, width=32)
    moved = register.read().energy + register.write().energy
    said = {"move_j": moved, "area_m2": register.area}
    yield "aladdin-register", "library", "AladdinRegister, 32 bit, 45 nm, written and read", said
    for name, unit in (("adder", Adder(NODE, 2e-9, 8)), ("adder-tree", AdderTree(NODE, 2e-9, 8, 4))):
        said = {"compute_j": unit.add().energy, "leakage_w": unit.leak_power, "area_m2": unit.area}
        yield f"neurosim-{name}", "neurosim", f"{type(unit).__name__}, 8 bit{', 4 inputs' * ('-' in name)}, 45 nm", said


def arrays(cell):
    """Yield what drives and holds a crossbar of 256 x 256 of our cells."""
    from hwcomponents_neurosim import ColDrivers, MemoryCell, RowDrivers

    fixed = {"tech_node": NODE, "cycle_period": SLICE, "rows": SIDE, "cols": SIDE, "cols_active_at_once": SIDE,
             "cell_config": cell, "read_pulse_width": PULSE}  # fmt: skip
    for name, inputs, cells in (("mean", 0.5, 1 / 3), ("full", 1.0, 1.0)):
        with_them = {"average_input_value": inputs, "average_cell_value": cells, **fixed}
        told = (
            f"256 x 256, 10 kohm / 1 Mohm, 0.15 V for 3.16 ns, 45 nm, {inputs:.0%} of inputs, {cells:.0%} of cells on"
        )
        said = {"read_j": MemoryCell(**with_them).read().energy}
        yield f"neurosim-cell-{name}", "neurosim", f"MemoryCell, {told}", said
        for kind, drivers in (("row", RowDrivers(**with_them)), ("column", ColDrivers(**with_them))):
            said = {"read_j": drivers.read().energy, "leakage_w": drivers.leak_power, "area_m2": drivers.area}
            yield f"neurosim-{kind}-{name}", "neurosim", f"{type(drivers).__name__}, {told}", said


def memories():
    """Yield off-chip memory, a bus, and what the packages ship; SRAM by size stands in cacti-sram.csv."""
    import hwcomponents_cacti
    import hwcomponents_neurosim
    from hwcomponents_library.library.isaac import IsaacEDRAMBus

    lpddr4 = hwcomponents_cacti.LPDDR4(width=64).read().energy
    yield "lpddr4", "cacti", 'LPDDR4, for 64 bits ("Public data")', {"bit_j": lpddr4 / 64}
    settings = Path(hwcomponents_cacti.__path__[0], "default_cfg.cfg").read_text()
    said = {"temperature_k": number(r"operating temperature \(K\) (\S+)", settings)}
    yield "cacti-default", "cacti", "settings it ships", said
    bus = IsaacEDRAMBus(tech_node=32e-9, width=1).transfer().energy
    yield "isaac-bus", "library", "bus of the eDRAM of ISAAC, 1 bit, 32 nm", {"bit_j": bus}
    cell = Path(hwcomponents_neurosim.__path__[0], "cells", "nvsim_RRAM.cell").read_text()
    said = {
        "write_s": number(r"SetPulse \(ns\): (\S+)", cell) * 1e-9,
        "write_j": number(r"SetEnergy \(pJ\): (\S+)", cell) * 1e-12,
    }
    yield "nvsim-rram", "neurosim", "RRAM cell of NVSim, as shipped", said
    for name in ("neurosim_default", "neurram_nature_2022"):
        cell = Path(shipped().parent, "memory_cells", f"rram_{name}.yaml").read_text()
        said = {"write_s": number(r"SetPulse \(ns\): (\S+)", cell) * 1e-9}
        yield f"accelforge-{name}", "accelforge", f"cell rram_{name}, as shipped", said


def number(pattern, text):
    """Return the first number that a pattern finds."""
    return float(re.search(pattern, text)[1])


def shipped():
    """Return AccelForge's description of an analog macro."""
    import accelforge as af

    return Path(str(af.examples.arches.compute_in_memory.basic_analog))


def layer(cell):
    """Yield energy by component and time of a 4096 x 4096 ternary projection on the shipped basic_analog."""
    import accelforge as af

    sys.path.append(str(shipped().parent))
    from _load_spec import get_spec

    spec = get_spec("basic_analog", add_dummy_main_memory=True, n_macros=(4096 // SIDE) ** 2)
    macros = next(node for node in spec.arch.nodes if node.name == "MacroAuto")
    macros.spatial[0].power_gateable = False  # every macro is busy; gating would charge the leakage of one
    pair = next(node for node in spec.arch.nodes if node.name == "CimUnit")
    pair.energy_scale = "cim_unit_width_cells"  # both cells of a pair are read
    for name in ("row_ARRAY_ROWS", "column_ARRAY_COLUMNS"):
        spec.arch.find_spatial(name).fanout = SIDE
    product = spec.workload.einsums["Matmul"]
    product.rank_sizes["K"] = product.rank_sizes["N"] = 4096
    for tensor, bits in (("input", 8), ("weight", 2), ("output", 8)):
        product.tensor_accesses[tensor].bits_per_value = bits
    spec.variables.tech_node, spec.variables.cell_config = NODE, af.LiteralString(cell)
    chosen = {
        "bits_per_cell": 1, "cim_unit_width_cells": 2, "voltage_dac_resolution": 1, "temporal_dac_resolution": 1,
        "cycle_period": SLICE, "read_pulse_width": PULSE, "average_input_value": 0.5, "average_weight_value": 1 / 3,
        "n_adc_per_bank": 128,
    }  # fmt: skip
    for name, value in chosen.items():
        spec.arch.variables[name] = value
    spec.mapper.metrics = af.Metrics.ENERGY
    spec.mapper.explore_imperfect_spatial_loops = False
    found = spec.map_workload_to_arch(print_progress=False)
    for (component, action), joules in found.energy(per_component=True, per_action=True).items():
        if float(joules):
            yield component, f"{action}_j", float(joules)
    yield "all", "latency_s", float(found.latency())


def table(cell, wanted):
    """Yield the lines of a table, the first its head."""
    if wanted == "accelforge":
        yield "component", "quantity", "value"
        yield from layer(cell)
        return
    yield "name", "package", "version", "configuration", "quantity", "value"
    for lines in (converters(), digital(), arrays(cell), memories()):
        for name, package, told, said in lines:
            package = package if package == "accelforge" else f"hwcomponents-{package}"
            for quantity, value in said.items():
                yield name, package, version(package), told, quantity, value


if __name__ == "__main__":
    from hwcomponents_neurosim import neurointerface

    neurointerface.NEUROSIM_PATH = os.path.abspath(sys.argv[1])
    out = csv.writer(sys.stdout, lineterminator="\n")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "dot")  # a mapping is drawn with Graphviz on the way; nobody looks at the drawing
        program.write_text("#!/bin/sh\ncat >/dev/null\n")
        program.chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
        cell = Path(folder, "cell.yaml")
        cell.write_text(CELL)
        said = sys.stdout
        sys.stdout = sys.stderr  # the mapper talks
        here = os.getcwd()
        os.chdir(folder)  # and leaves a drawing where it runs
        lines = [[f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in table(str(cell), sys.argv[2])]
        os.chdir(here)
        sys.stdout = said
    out.writerows(lines)
