"""What a matrix product makes an array do: clocks, toggles, items, bits moved, counted on the real data.

The array walks its rows tile by tile and, for each, all tokens (output-stationary); every output is made by
one PE. Steps from one output to a PE's next are counted; a PE that a ragged tile leaves idle stands still.
"""

from sim.activity.counting import SAMPLE, Measured, activity, by_plane, check_countable, countable, measure
from sim.activity.planes import PlaneActivity
from sim.activity.tables import Batches

__all__ = [
    "SAMPLE",
    "Batches",
    "Measured",
    "PlaneActivity",
    "activity",
    "by_plane",
    "check_countable",
    "countable",
    "measure",
]
