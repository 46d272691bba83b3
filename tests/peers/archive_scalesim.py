"""Write data/peers/scalesim.csv: what the real SCALE-Sim reports for twenty products.

Run from the root of a checkout, after `make test MARK=peer` has made the simulator's environment:

    .venv-peer/bin/python tests/peers/archive_scalesim.py > data/peers/scalesim.csv
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

#: m, k, n, rows, cols, dataflow: products of decoding and prefill, ragged ones, every dataflow, seven arrays.
PRODUCTS = [
    (1, 1024, 1024, 32, 32, "os"), (1, 4096, 1024, 32, 32, "os"), (1, 64, 128, 32, 32, "os"), (1, 128, 64, 32, 32, "os"),
    (1, 768, 3072, 32, 32, "os"), (16, 256, 256, 32, 32, "os"), (33, 100, 65, 32, 32, "os"), (1, 1024, 1024, 8, 128, "os"),
    (1, 512, 768, 1, 256, "os"), (31, 57, 90, 5, 7, "os"),
    (1, 256, 512, 32, 32, "ws"), (16, 256, 256, 32, 32, "ws"), (33, 100, 65, 16, 8, "ws"), (31, 57, 90, 5, 7, "ws"),
    (90, 40, 200, 4, 64, "ws"),
    (1, 256, 512, 32, 32, "is"), (16, 256, 256, 32, 32, "is"), (33, 100, 65, 8, 16, "is"), (31, 57, 90, 5, 7, "is"),
    (90, 40, 200, 4, 64, "is"),
]  # fmt: skip

if __name__ == "__main__":
    runner = Path(__file__).with_name("scalesim_runner.py")
    done = subprocess.run(
        [sys.executable, runner], input=json.dumps(PRODUCTS), capture_output=True, text=True, check=True
    )
    reports = [{key: int(value) for key, value in row.items()} for row in json.loads(done.stdout.splitlines()[-1])]
    sizes = ("m", "k", "n", "rows", "cols", "dataflow")
    table = csv.DictWriter(sys.stdout, [*sizes, *reports[0]], lineterminator="\n")
    table.writeheader()
    table.writerows(
        dict(zip(sizes, product, strict=True)) | report for product, report in zip(PRODUCTS, reports, strict=True)
    )
