"""What products cost on each engine, and what surrounds the engines; entries for the ledger."""

from pimllm_lib.engines import array, crossbars, keys_values, writing
from pimllm_lib.engines.entries import Engine

#: Engine by the name that routing gives it, the field of `System` with its part; in the order of `hardware.ENGINES`.
BY_NAME: dict[str, Engine] = {
    "array": Engine(array.entries),
    "pim": Engine(crossbars.entries, side_by_side=True),  # crossbars hold every matrix at once
    "kv_pim": Engine(keys_values.entries, late=writing.late),
}
