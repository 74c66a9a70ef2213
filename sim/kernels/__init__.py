"""Exact kernels on packed planes, one algorithm a file; `sim.numba_engine` chooses among them."""

from sim.kernels.vectors import popcount

__all__ = ["popcount"]
