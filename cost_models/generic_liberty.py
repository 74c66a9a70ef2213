"""Our own cell library in gate equivalents: 1 area unit is one two-input NAND.

With it the calibration and its tests need no third-party library. Areas are the medians, over five open
libraries (ASAP7, GT2N, OSU018, SG13G2, SKY130HD), of the smallest cell of each function over the smallest
two-input NAND; a function that fewer than three of them hold was left to its nearest relative. Delays and
capacitances are toys that only order the cells for the mapper: no timing or energy may be read from them.
"""

from __future__ import annotations

from pathlib import Path

#: where the generated library is kept
PATH = Path(__file__).parent / "data" / "generic_ge.lib"

#: cell: (area [GE], inputs, function)
CELLS = {
    "INV": (0.75, "A", "!A"),
    "BUF": (1.0, "A", "A"),
    "NAND2": (1.0, "A B", "!(A*B)"),
    "NOR2": (1.0, "A B", "!(A+B)"),
    "AND2": (1.33, "A B", "A*B"),
    "OR2": (1.33, "A B", "A+B"),
    "NAND3": (1.33, "A B C", "!(A*B*C)"),
    "NOR3": (1.33, "A B C", "!(A+B+C)"),
    "NAND4": (1.5, "A B C D", "!(A*B*C*D)"),
    "NOR4": (1.5, "A B C D", "!(A+B+C+D)"),
    "AOI21": (1.33, "A B C", "!((A*B)+C)"),
    "OAI21": (1.25, "A B C", "!((A+B)*C)"),
    "AOI22": (1.67, "A B C D", "!((A*B)+(C*D))"),
    "OAI22": (1.67, "A B C D", "!((A+B)*(C+D))"),
    "XOR2": (2.33, "A B", "(A*!B)+(!A*B)"),
    "XNOR2": (2.33, "A B", "(A*B)+(!A*!B)"),
    "MUX2": (2.75, "A B S", "(A*!S)+(B*S)"),
    "MAJ3": (2.5, "A B C", "(A*B)+(A*C)+(B*C)"),
}
#: area of the D flip-flop [GE]; from 4 to 10 over the libraries, so flip-flops get a scale of their own
FLOP_GE = 5.25

_HEADER = """\
/* Generic gate equivalents, written by cost_models/generic_liberty.py: edit the table there.
   1 area unit = one two-input NAND. Delays and capacitances are toys. SPDX-License-Identifier: Apache-2.0 */
library (generic_ge) {
  delay_model : table_lookup;
  time_unit : "1ps";
  voltage_unit : "1V";
  current_unit : "1mA";
  pulling_resistance_unit : "1kohm";
  leakage_power_unit : "1nW";
  capacitive_load_unit (1, ff);
  nom_voltage : 1.0;
  nom_temperature : 25;
  nom_process : 1;
  lu_table_template (delay) {
    variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance;
    index_1 ("1, 100");
    index_2 ("0.1, 100");
  }
"""

#: toy delay: picoseconds of a cell of one gate equivalent, and per femtofarad of load
_INTRINSIC_PS, _PER_LOAD_PS, _PER_SLEW_PS = 8.0, 1.0, 5.0


def _timing(related: str, intrinsic: float, extra: str) -> str:
    loaded = intrinsic + 10 * _PER_LOAD_PS
    rows = f'"{intrinsic:.1f}, {loaded:.1f}", "{intrinsic + _PER_SLEW_PS:.1f}, {loaded + _PER_SLEW_PS:.1f}"'
    tables = " ".join(
        f"{table} (delay) {{ values ({rows}); }}"
        for table in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    return f'      timing () {{ related_pin : "{related}"; {extra} {tables} }}'


def _gate(name: str, area: float, inputs: str, function: str) -> str:
    lines = [f"  cell ({name}) {{", f"    area : {area};"]
    lines += [f"    pin ({pin}) {{ direction : input; capacitance : 1.0; }}" for pin in inputs.split()]
    lines += ["    pin (Y) {", "      direction : output;", f'      function : "{function}";']
    sense = "timing_sense : non_unate;"
    lines += [_timing(pin, _INTRINSIC_PS * area, sense) for pin in inputs.split()]
    return "\n".join([*lines, "    }", "  }"])


def _flop() -> str:
    edge = "timing_type : rising_edge;"
    return "\n".join(
        [
            "  cell (DFF) {",
            f"    area : {FLOP_GE};",
            '    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }',
            "    pin (D) { direction : input; capacitance : 1.0; }",
            "    pin (CK) { direction : input; clock : true; capacitance : 1.0; }",
            "    pin (Q) {",
            "      direction : output;",
            '      function : "IQ";',
            _timing("CK", _INTRINSIC_PS * FLOP_GE, edge),
            "    }",
            "  }",
        ]
    )


def text() -> str:
    """The library as liberty text."""
    gates = (_gate(name, *cell) for name, cell in CELLS.items())
    return _HEADER + "\n".join([*gates, _flop()]) + "\n}\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
    print(f"wrote {PATH}: {len(CELLS)} gates and a flip-flop")
