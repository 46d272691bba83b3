"""Write weights in the types that the package gguf knows, as one file, and say what it reads in it.

Told on standard input: where, and arrays by name with a type each, or their blocks. Says what each is worth once packed.
"""

import json
import sys

import gguf
import numpy as np


def main():
    asked = json.load(sys.stdin)
    writer = gguf.GGUFWriter(asked["path"], asked["family"])
    for key, value in asked["values"].items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
        add[type(value)](key, value)
    for name, (kind, rows) in asked["tensors"].items():
        number = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(np.array(rows, np.float32), number), raw_dtype=number)
    for name, (kind, rows) in asked.get("blocks", {}).items():
        writer.add_tensor(name, np.array(rows, np.uint8), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    said = {tensor.name: _worth(tensor) for tensor in gguf.GGUFReader(asked["path"]).tensors}
    sizes = {str(int(number)): [number.name, *size] for number, size in gguf.GGML_QUANT_SIZES.items()}
    print(json.dumps({"read": said, "sizes": sizes, "names": list(gguf.MODEL_ARCH_NAMES.values())}))


def _worth(tensor):
    shape = tensor.shape[::-1].tolist()
    return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(shape).tolist()


main()
