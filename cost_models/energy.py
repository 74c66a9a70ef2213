"""Energy: what a run did (`hw.spec.Activity`) times measured energies per event.

The data-dependent part follows counted toggles; clock and leakage run on every clock of every PE, idle or
not, since nothing here gates a clock. Inside a PE only the operands' toggles are known. The share of lanes
that change in a beat is taken as that of an XNOR of independent operands, ``a + b - 2ab``, with ``a`` and
``b`` the operands' mean toggle rates; a toggling mask changes every second lane. That knows neither the
digits' kind nor the mask's density, which is most of the model's error: see `energy_fit`. Where the beats
themselves are at hand, toggles inside a PE of any kind are counted instead: see `energy_pe`.
"""

from __future__ import annotations

from cost_models import area, energy_pe, memory
from cost_models import tech as techs
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Cost, Term
from hw.spec import Activity, ArraySpec

#: driver of `drivers` and the constant that prices it
PARTS = {
    "clock": "clock_flop",
    "operands": "operand_toggle",
    "counter": "counter_adder",
    "registers": "register_flop",
    "accumulator": "accumulator_bit",
}


def drivers(activity: Activity, array: ArraySpec) -> dict[str, float]:
    """What the PEs' dynamic energy is proportional to, by part.

    clock: flip-flops times clocks, all PEs. operands: toggles of weight, activation and mask bits.
    counter: bit-counter adders, times beats, times the share of lanes that change. registers: flip-flops,
    likewise. accumulator: carry-propagate adder bits and their multiplexers, times beats.
    """
    cells = array.pe.resources()
    slots = max(1, activity.beats * array.pe.lanes)
    w, x, mask = (n / slots for n in (activity.w_toggles, activity.x_toggles, activity.mask_toggles))
    # Rates of a sum over many beats; a rate above 1 could only come from toggles of beats not counted.
    w, x, mask = min(w, 1.0), min(x, 1.0), min(mask, 1.0)
    changing = (1 - mask) * (w + x - 2 * w * x) + mask / 2
    return {
        "clock": float(cells.flop * array.rows * array.columns * activity.cycles),
        "operands": float(activity.w_toggles + activity.x_toggles + activity.mask_toggles),
        "counter": (cells.full_adder + cells.half_adder / 2) * activity.beats * changing,
        "registers": cells.flop * activity.beats * changing,
        "accumulator": float(cells.adder_bit * activity.beats),
    }


def energy(
    activity: Activity,
    array: ArraySpec,
    tech: Tech | str,
    dram: str = "lpddr5",
    counted: energy_pe.Counted | None = None,
) -> Cost:
    """Energy of a run [pJ], by part. Raises ValueError where the technology lacks a number the run needs.

    Parameters: counted, toggles inside the PEs on the run's beats, of whatever kind they are; without, those
    of bit-serial PEs follow from the activity's, and a sum over two runs is not exactly the cost of their
    summed activity: toggle rates are averaged.
    """
    tech = techs.resolve(tech)
    terms = (
        *(_dynamic(activity, array, tech) if counted is None else _counted(activity, array, tech, counted)),
        *_scale(activity, array, tech),
        memory.read("weight_buffer", activity.weight_buffer_bits, tech),
        memory.read("activation_buffer", activity.activation_buffer_bits, tech),
        memory.write("results", activity.result_bits, tech),
        *_leakage(activity, array, tech),
        memory.external("dram", activity.dram_bits, dram),
    )
    return Cost(unit="pJ", terms=tuple(term for term in terms if term.quantity))


def _dynamic(activity: Activity, array: ArraySpec, tech: Tech) -> list[Term]:
    scale = tech.constant("energy_scale")
    terms = [
        _femto(part, count, tech.constant(PARTS[part]), scale)
        for part, count in drivers(activity, array).items()
    ]
    # The clock's wires and buffers, as a share of its pins.
    terms.append(terms[0].times(1.0, techs.design("clock_tree"), part="clock_tree"))
    return terms


def _counted(activity: Activity, array: ArraySpec, tech: Tech, counted: energy_pe.Counted) -> list[Term]:
    clocks = array.rows * array.columns * activity.cycles
    terms = list(energy_pe.terms(counted, tech, activity.beats, clocks))
    # Registers between PEs: their clock alone, as toggles there are not counted.
    between = array.resources().flop - array.pe.resources().flop * array.rows * array.columns
    first = terms[0]
    network = Term(part="network", quantity=between * activity.cycles * 1e-3, constants=first.constants)
    tree = techs.design("clock_tree")
    return [*terms, network, *(term.times(1.0, tree, part="clock_tree") for term in (first, network))]


def _scale(activity: Activity, array: ArraySpec, tech: Tech) -> list[Term]:
    """Products of an item and a scale mantissa, each added to a row's sum."""
    bits = float(activity.scale_products * array.pe.acc_width)
    return [
        _femto(
            "scale",
            bits,
            techs.design("scale_mantissa"),
            tech.constant("multiplier_bit"),
            tech.constant("energy_scale"),
        )
    ]


def _leakage(activity: Activity, array: ArraySpec, tech: Tech) -> list[Term]:
    seconds = activity.cycles / array.clock_hz
    per_area = tech.constant("leakage")
    # nW x s = nJ: 1e3 pJ.
    cells = [
        term.times(seconds * 1e3, per_area, part="pe_leakage")
        for term in area.cell_terms(array.resources(), tech)
    ]
    bits = {"weight": array.weight_buffer_bits, "activation": array.activation_buffer_bits}
    return cells + [memory.leakage("buffer_leakage", n, seconds, tech) for n in bits.values()]


def _femto(part: str, count: float, *constants: Constant) -> Term:
    """A term of constants in fJ, booked in pJ."""
    return Term(part=part, quantity=count * 1e-3, constants=constants)
