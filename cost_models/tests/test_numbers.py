"""No figure of a model stands in code: those are in `constants`, each with its source."""

import ast
from pathlib import Path

HOME = Path(__file__).parents[1]
#: counts, halves, percent and powers of ten and two: arithmetic, units, sizes of words
PLAIN = {0, 1, 2, 3, 0.5, 100} | {10.0**n for n in range(-15, 16)} | {2**n for n in range(21)}
#: files whose other numbers are no figures of a model, and what they are
OTHER = {
    "calibrate.py": "sizes of the designs that are synthesized, shares held out",
    "calibration/designs.py": "sizes of the designs that are synthesized",
    "calibration/fit.py": "shares held out, tolerances and weights of the solver",
    "calibration/judge.py": "relative weights that a fit starts from, percent",
    "calibration/measure.py": "time limits",
    "calibration/paths.py": "gates in series in the structures that timing is fitted to",
    "calibration/run.py": "sizes of the six designs",
    "calibration/sta.py": "tolerances of an iteration, slews at the ports",
    "calibration/store.py": "goals that a fit is held against",
    "energy_coefficients.py": "goals that a fit is held against, percentiles",
    "energy_fit.py": "sizes of designs and stimuli, percentiles",
    "energy_gates.py": "truth tables",
    "energy_stimuli.py": "beats, shares of ones, lengths of items of the stimuli",
    "exports.py": "versions of file formats",
    "gate_energy.py": "seconds that a simulation may take",
    "generic_liberty.py": "the definition of our own library",
    "montecarlo.py": "the share of draws in a band",
    "netlist.py": "tolerances, lengths of messages",
    "sparsity/designs.py": "sizes of the designs that are synthesized",
    "sparsity/price.py": "percent",
    "sparsity/sweep.py": "sizes of the designs that are synthesized, time limits",
    "uncertain.py": "the most corners that are visited",
    "validate.py": "published figures, each beside its source",
}
#: files that answer for prices: never in the list above
PRICES = (
    "area",
    "dram",
    "energy",
    "explain",
    "memory",
    "ranking",
    "registers",
    "scaling",
    "sram",
    "sweep",
    "tech",
)


def literals(path):
    """Numbers in a file's code, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node.lineno, node.value


def test_no_figure_stands_in_code():
    found = []
    for path in sorted(HOME.rglob("*.py")):
        name = path.relative_to(HOME).as_posix()
        if "tests" in path.parts or name in OTHER or name.startswith("validation"):
            continue
        # Small whole numbers count things: planes, ways, columns.
        found += [
            f"{name}:{line}: {value!r}"
            for line, value in literals(path)
            if value not in PLAIN and not (isinstance(value, int) and value <= 16)
        ]
    assert found == []


def test_files_that_price_are_not_excused():
    assert not {f"{name}.py" for name in PRICES} & set(OTHER)


def test_a_figure_in_code_would_be_seen(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("ENERGY = 0.03  # pJ\n")
    assert [value for _, value in literals(path) if value not in PLAIN] == [0.03]
