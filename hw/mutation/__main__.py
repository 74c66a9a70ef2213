"""``python -m hw.mutation``: mutants of the RTL against its verification; status 1 if too many live."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hw.mutation.report import DESIGNS, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m hw.mutation", description=__doc__)
    parser.add_argument("designs", nargs="*", help=f"some of {', '.join(DESIGNS)}; default: all")
    parser.add_argument("--beats", type=int, default=300, help="beats at full rate, and again with stalls")
    parser.add_argument("--resets", type=int, default=40, help="short runs that a reset ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results there too")
    chosen = parser.parse_args()
    sys.exit(main(chosen.designs, chosen.json, beats=chosen.beats, resets=chosen.resets, seed=chosen.seed))
