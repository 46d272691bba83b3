"""`python -m pimllm_lib` is `pimllm`."""

import sys

from pimllm_lib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
