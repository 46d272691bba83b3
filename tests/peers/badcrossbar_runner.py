"""Solve arrays with the real badcrossbar, in an environment that has it.

Reads a JSON list of [conductances, bit_ohm, word_ohm, inputs] on stdin, prints a JSON list of the currents at the feet, a
row for each input. It draws with cairo and solves without, so its warning that cairo is missing is as it should be.
"""

import json
import sys

import badcrossbar
import numpy as np


def currents(conductances, bit_ohm, word_ohm, inputs):
    solved = badcrossbar.compute(
        np.array(inputs).T, 1 / np.array(conductances), r_i_word_line=word_ohm, r_i_bit_line=bit_ohm
    )
    return np.asarray(solved.currents.output).tolist()


print(json.dumps([currents(*asked) for asked in json.load(sys.stdin)]))
