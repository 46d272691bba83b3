"""`python -m pimllm_lib` is `pimllm`."""

import os
import sys

import pimllm_lib

# As for `pimllm` itself, what lies in the current folder is no module of anybody's; unless the library itself lies there.
if not sys.flags.safe_path and os.path.dirname(os.path.dirname(pimllm_lib.__file__)) != os.getcwd():
    sys.path[:] = [place for place in sys.path if place not in ("", os.getcwd())]

if __name__ == "__main__":
    from pimllm_lib.cli.main import main

    sys.exit(main())
