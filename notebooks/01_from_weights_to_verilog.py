# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From weights to Verilog
#
# One matrix through the whole loop: packed planes, honest bits, exact integers, a PE, its RTL, its cost.

# %%
import numpy as np
import pandas as pd

import planeforge as pf

rng = np.random.default_rng(0)
weight = rng.standard_t(4, size=(96, 200)) * 0.02  # 200 columns: no multiple of 64 or 128
tokens = rng.normal(size=(256, 200))

# %% [markdown]
# ## What a format really stores
#
# `published` is the formula its authors print; `bits_per_weight` counts the bytes the decoder needs.

# %%
made = {
    "int4": pf.quantize(weight, "rtn", "int4-g128"),
    "int2": pf.quantize(weight, "rtn", "int2-g128"),
    "sign": pf.quantize(weight, "sign"),
    "BiLLM": pf.quantize(weight, "billm", calibration=tokens),
}
bill = pd.DataFrame({name: q.figures for name, q in made.items()}).T
bill[["bits_per_weight", "bits_per_weight_published", "weight_error"]]

# %%
pd.DataFrame({name: pf.breakdown(q.matrix) for name, q in made.items()}).T.fillna(0).round(3)

# %% [markdown]
# ## What the planes mean
#
# BiLLM is a sum of terms over shared planes: the mask of one term is the complement of another's.

# %%
for term in made["BiLLM"].matrix.terms:
    print(f"mask {term.mask!s:20} planes {term.planes} scale {term.scale} offset {term.offset}")

# %% [markdown]
# ## The same integers from every engine
#
# The judge is torch in int64 on unpacked digits. CXXRTL runs the PE's own RTL.

# %%
cases = [
    pf.Case(name=name, matrix=q.matrix, activations=pf.streams(q.matrix, tokens[:4], 8))
    for name, q in made.items()
]
outcomes = pf.verify(cases, ("torch", "numba", "cxxrtl"))
assert all(outcome.agrees for outcome in outcomes)
pd.DataFrame([{"engine": o.engine, "macs": o.macs, "mismatches": o.mismatches} for o in outcomes])

# %% [markdown]
# ## What they cost on an array
#
# Masks and offsets are work too: a "1-bit" format with zones keeps the PEs busy longer than 4-bit integers.

# %%
array = pf.array("8x8", "bitserial:lanes=64")
runs = {name: pf.simulate(q.matrix, tokens[:16], array=array) for name, q in made.items()}
pd.DataFrame({name: {"cycles": r.cycles, "utilisation": r.utilisation} for name, r in runs.items()}).T

# %%
from cost_models.area import pe_area
from cost_models.energy import energy

area = pe_area(array.pe.resources(), "asap7")
print(f"one PE: {area.total:.1f} {area.unit} [{area.low:.1f} to {area.high:.1f}]")
costs = {name: energy(run.activity, array, "asap7") for name, run in runs.items()}
pd.DataFrame({name: cost.breakdown for name, cost in costs.items()}).T.round(0)

# %% [markdown]
# ## The Verilog
#
# `planeforge verilog -o rtl` writes the same with a testbench, constraints and build scripts.

# %%
from amaranth.back import verilog

text = verilog.convert(pf.pe("bitserial:lanes=8").create(), name="pe", emit_src=False)
print(text[text.index("module pe(") :][:400])
