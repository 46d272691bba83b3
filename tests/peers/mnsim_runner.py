"""Run matrices through MNSIM 2.0, whose folder is the argument, in an environment with numpy and pandas.

Reads a JSON list of [fan_in, fan_out] on stdin, prints a JSON list of objects with the simulator's report of each matrix:
hops to merge and to send, and by component time (ns), energy (nJ) and area (um2). It stands between a first layer of
8 channels, which has to be a convolution, and one of 64 columns, to which its results go. Settings are those of the study.
"""

import configparser
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np

FOLDER = Path(sys.argv[1])
SETTINGS = {
    "Crossbar level": {"Xbar_Size": "256,256", "Subarray_Size": "256"},
    "Interface level": {"DAC_Choice": "1", "ADC_Choice": "2"},
    "Process element level": {"Xbar_Polarity": "2", "Group_Num": "1", "DAC_Num": "256", "ADC_Num": "128"},
    "Digital module": {"Digital_Frequency": "500"},
    "Tile level": {"PE_Num": "2,2", "Inter_Tile_Bandwidth": "20", "Intra_Tile_Bandwidth": "1024"},
    "Architecture level": {"Tile_Connection": "2", "Tile_Num": "64,64"},
    "Algorithm Configuration": {"Simulation_Level": "0", "NoC_enable": "0"},
}
#: What counts for each of our components there; buffers have another name in times.
PARTS = {
    "dac": ["DAC"], "adc": ["ADC"], "crossbar": ["xbar"], "registers": ["iReg", "oReg"],
    "mux": ["input_demux", "output_mux"], "shift_add": ["shiftreg", "adder"], "joint": ["jointmodule"],
}  # fmt: skip
TIMES = PARTS | {
    "buffer": ["buffer"],
    "intra_tile": ["intra_tile"],
    "merge": ["tile_merge"],
    "transfer": ["tile_transfer"],
}
AREAS = {name: [part] for name, part in zip(
    ("dac", "adc", "crossbar", "digital", "buffer", "pooling", "total"),
    ("DAC_", "ADC_", "xbar_", "digital_", "buf_", "pooling_", ""), strict=True)}  # fmt: skip

# Its models import PyTorch and the module that trains networks, of which they use nothing but numpy.
interface = ModuleType("MNSIM.Interface.interface")
interface.np = np
sys.modules |= {"torch": ModuleType("torch"), interface.__name__: interface}
sys.path.insert(0, str(FOLDER))

from MNSIM.Area_Model.Model_Area import Model_area  # noqa: E402
from MNSIM.Energy_Model.Model_energy import Model_energy  # noqa: E402
from MNSIM.Latency_Model.Model_latency import Model_latency  # noqa: E402
from MNSIM.Mapping_Model.Tile_connection_graph import TCG  # noqa: E402
from MNSIM.Power_Model.Model_inference_power import Model_inference_power  # noqa: E402


def network(fan_in, fan_out):
    first = {
        "type": "conv", "Inputchannel": 8, "Outputchannel": 8, "Kernelsize": 1, "Stride": 1, "Padding": 0,
        "Inputsize": [1, 1], "Outputsize": [1, 1],
    }  # fmt: skip
    rest = [{"type": "fc", "Infeature": k, "Outfeature": n} for k, n in ((fan_in, fan_out), (fan_out, 64))]
    return [[[layer | {"Inputbit": 8, "outputbit": 8, "Weightbit": 2}]] for layer in (first, *rest)]


def reported(model, named, parts):
    """Return what a model says of the middle layer, summed over the parts of each component."""
    return {name: float(sum(getattr(model, named.format(p))[1] for p in those)) for name, those in parts.items()}


def simulate(fan_in, fan_out, config):
    layers = network(fan_in, fan_out)
    on = {"NetStruct": layers, "SimConfig_path": config, "TCG_mapping": TCG(layers, config)}
    times = Model_latency(**on)
    times.calculate_model_latency(mode=1)
    energies = Model_energy(**on, model_latency=times, model_power=Model_inference_power(**on))
    graph = on["TCG_mapping"]
    return {
        "hops": [float(graph.inLayer_distance[0][1]), float(graph.transLayer_distance[0][1])],
        "time_ns": reported(times, "total_{}_latency", TIMES),
        "energy_nj": reported(energies, "arch_{}_energy", PARTS | {"buffer": ["buf"]}),
        "area_um2": reported(Model_area(**on), "arch_{}area", AREAS),
    }


settings = configparser.ConfigParser()
settings.read(FOLDER / "SimConfig.ini", encoding="utf-8")
settings.read_dict(SETTINGS)
with TemporaryDirectory() as folder:
    config = Path(folder, "SimConfig.ini")
    with config.open("w", encoding="utf-8") as file:
        settings.write(file)
    print(json.dumps([simulate(*shape, str(config)) for shape in json.load(sys.stdin)]))
