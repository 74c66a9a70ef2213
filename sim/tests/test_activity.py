"""Activity against a walk of the array, PE by PE and beat by beat."""

from dataclasses import asdict, replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import decode, words
from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.storage import stored_bytes
from algo.bitplane.tests.strategies import matrices
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, horner, signed_bits
from sim import schedule
from sim.activity import Batches, activity, by_plane, measure
from sim.tests.test_engines import activations_for

INT2 = Format(
    name="i", digit=Digit.UNIPOLAR, coefs=(1, 2), group=32, zero=True, published_bits=2.0, source="test"
)


SIDES = ("weight", "activation")


@st.composite
def arrays(draw):
    """A matrix, its activations, and an array that neither its rows nor its tokens need to fill."""
    matrix = draw(matrices())
    pe = BitSerial(lanes=draw(st.sampled_from([1, 5, 64, 100])), acc_width=draw(st.sampled_from([34, 64])))
    array = ArraySpec(pe=pe, rows=draw(st.integers(1, 3)), columns=draw(st.integers(1, 3)))
    return matrix, draw(activations_for(matrix)), array


def runs(matrix, activations, array):
    """The beats of every PE that has any, in the order it takes them."""
    tokens = len(activations[0].values)
    work = schedule.work(matrix, activations, array.pe, np.arange(tokens), np.arange(matrix.rows))
    beats = work.beats.to_list()
    each = len(beats) // (tokens * matrix.rows)
    for i, j in product(range(min(array.rows, matrix.rows)), range(min(array.columns, tokens))):
        outputs = [
            n * matrix.rows + m
            for m in range(i, matrix.rows, array.rows)
            for n in range(j, tokens, array.columns)
        ]
        yield [beat for at in outputs for beat in beats[at * each : (at + 1) * each]]


def product_bits(beat, lanes):
    """``hit`` and ``base`` from the digits' product, lane by lane."""
    hit = base = 0
    for lane in range(lanes):
        w, x, counts = (word >> lane & 1 for word in (beat.w, beat.x, beat.mask))
        product = counts * (2 * w - 1 if beat.w_bipolar else w) * (2 * x - 1 if beat.x_bipolar else x)
        hit, base = hit | (product == 1) << lane, base | (product != 0) << lane
    return hit, base


def walked(run, pe):
    """Toggles of one PE, by what `PeSpec.golden` and the digits say."""
    found = dict.fromkeys(TOGGLES, 0)
    for before, after in pairwise(run):
        for name in ("w", "x", "mask"):
            found[f"{name}_toggles"] += (getattr(before, name) ^ getattr(after, name)).bit_count()
        bits = zip(product_bits(before, pe.lanes), product_bits(after, pe.lanes), strict=True)
        found["product_toggles"] += sum((one ^ other).bit_count() for one, other in bits)
    acc = dot = 0
    for beat in run:
        after, alone = pe.golden(acc, beat), pe.golden(0, beat)
        found["accumulator_toggles"] += ((acc ^ after) & ((1 << pe.acc_width) - 1)).bit_count()
        found["dot_toggles"] += ((dot ^ alone) & ((1 << signed_bits(-pe.lanes, pe.lanes)) - 1)).bit_count()
        acc, dot = after, alone
    return found


TOGGLES = (
    "w_toggles",
    "x_toggles",
    "mask_toggles",
    "product_toggles",
    "dot_toggles",
    "accumulator_toggles",
)


@settings(deadline=None, max_examples=40)
@given(arrays())
def test_counts_equal_a_walk_over_every_pe(case):
    matrix, activations, array = case
    counted = measure(matrix, Batches.whole(activations), array, sample=None)
    all_runs = list(runs(matrix, activations, array))
    parts = [walked(run, array.pe) for run in all_runs]
    expected = {name: sum(part[name] for part in parts) for name in TOGGLES}
    assert {name: getattr(counted.activity, name) for name in TOGGLES} == expected
    beats = [beat for run in all_runs for beat in run]
    assert counted.activity.beats == len(beats)
    assert counted.activity.items == counted.activity.scale_products == sum(beat.last for beat in beats)
    assert not counted.sampled


def idle(beat, whole):
    """Neither word alone leaves the beat nothing to add; a bubble is asked elsewhere."""
    w = beat.mask if beat.w_bipolar else beat.w & beat.mask
    return w == 0 or (whole if beat.x_bipolar else beat.x) == 0


@settings(deadline=None, max_examples=15)
@given(arrays())
def test_idle_beats_and_bubbles_equal_a_walk(case):
    matrix, activations, array = case
    counted = measure(matrix, Batches.whole(activations), array, sample=None).activity
    beats = [beat for run in runs(matrix, activations, array) for beat in run]
    segments = schedule.shape(matrix, activations[0].bits, 1).segments
    bubbles = sum(
        segment.count * sum(step.w_plane < 0 for step in horner(segment.weight, segment.activation))
        for segment in segments
    )
    outputs = matrix.rows * len(activations[0].values)
    assert counted.bubbles == bubbles * outputs
    # Every bubble is idle by the rule, and none is counted as one.
    assert counted.zero_beats == sum(idle(beat, 1) for beat in beats) - counted.bubbles


@settings(deadline=None, max_examples=30)
@given(arrays())
def test_the_planes_of_either_side_add_up_to_the_whole(case):
    matrix, activations, array = case
    found = measure(matrix, Batches.whole(activations), array, sample=None)
    for side, name in product(SIDES, (*TOGGLES, "beats", "zero_beats")):
        of_side = [getattr(plane, name) for plane in found.planes if plane.side == side]
        assert sum(of_side) == getattr(found.activity, name), (side, name)


@settings(deadline=None, max_examples=30)
@given(arrays())
def test_what_a_weight_plane_holds_equals_its_bits(case):
    matrix, activations, array = case
    found = measure(matrix, Batches.whole(activations), array, sample=None)
    lanes = array.pe.lanes
    for plane in found.planes:
        if plane.side != "weight" or plane.plane in ("sum", "bubble"):
            continue
        term = matrix.terms[plane.term]
        mask = decode.mask_bits(matrix, term)
        bits = words.unpack(matrix.words_of(plane.plane), matrix.columns) & mask
        counts = mask if term.digit is Digit.BIPOLAR else bits
        groups = [counts[:, at : at + matrix.group] for at in range(0, matrix.columns, matrix.group)]
        cuts = [g[:, at : at + lanes] for g in groups for at in range(0, g.shape[1], lanes)]
        assert (plane.ones, plane.bits) == (bits.sum(), mask.sum())
        assert (plane.words, plane.group_planes) == (len(cuts) * matrix.rows, len(groups) * matrix.rows)
        assert plane.zero_words == sum(int((~cut.any(axis=1)).sum()) for cut in cuts)
        assert plane.zero_planes == sum(int((~g.any(axis=1)).sum()) for g in groups)


def layer(rows=10, columns=70, tokens=7):
    rng = np.random.default_rng(0)
    groups = -(-columns // 32)
    digits, zero = rng.integers(0, 4, (rows, columns)), rng.integers(0, 4, (rows, groups))
    matrix = from_digits(INT2, digits, rng.random((rows, groups)), zero)
    return matrix, [quantize_activations(rng.normal(size=(tokens, columns)))]


def test_buffer_and_memory_bits_by_hand():
    matrix, acts = layer()
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=4)
    counted = activity(matrix, acts, array)
    chunks = 2 + 2 + 1  # groups of 32, 32 and 6 columns
    weight = chunks * 16 * 8 * 2 + 3 * (16 + 2)  # two planes at eight activation bits; scale and zero point
    assert counted.weight_buffer_bits == weight * 10 * 2  # two tiles of tokens
    assert counted.activation_buffer_bits == 7 * chunks * 16 * 8 * 3 * 3  # digits and sums; three row tiles
    assert counted.result_bits == 70 * 32
    inputs = 7 * (70 * 8 + 32)
    assert counted.dram_bits == 8 * sum(stored_bytes(matrix).values()) + inputs + 70 * 32
    assert counted.cycles == array.cycles(schedule.shape(matrix, 8, 7))


def test_masks_are_read_with_every_plane_and_streams_come_in_each():
    matrix, acts = layer()
    masked = replace(matrix.terms[0], mask="plane0", col="f")
    factors = {"f": np.ones(70, np.float32)}
    both = replace(matrix, terms=(matrix.terms[0], masked), factors=factors)
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=4)
    counted = activity(both, acts * 2, array)
    one = 5 * 16 * 8
    plain, more = one * 2 + 3 * 18, one * (2 * 2 + 1) + 3 * 18
    assert counted.weight_buffer_bits == (plain + more) * 10 * 2
    stored = 8 * sum(stored_bytes(both).values())
    assert counted.dram_bits == stored + 2 * 7 * (70 * 8 + 32) + 70 * 32


def test_what_does_not_fit_its_buffer_is_fetched_again():
    matrix, acts = layer()
    stored, inputs = 8 * sum(stored_bytes(matrix).values()), 7 * (70 * 8 + 32)
    pe = BitSerial(lanes=16)
    small_weights = ArraySpec(pe=pe, rows=4, columns=4, weight_buffer_bits=8)
    assert activity(matrix, acts, small_weights).dram_bits == 2 * stored + inputs + 70 * 32
    small_inputs = ArraySpec(pe=pe, rows=4, columns=4, activation_buffer_bits=8)
    assert activity(matrix, acts, small_inputs).dram_bits == stored + 3 * inputs + 70 * 32


def test_an_array_of_many_rows_and_tokens_equals_its_walk():
    matrix, acts = layer(rows=21, columns=70, tokens=19)
    array = ArraySpec(pe=BitSerial(lanes=16, acc_width=20), rows=4, columns=5)
    counted = activity(matrix, acts, array)
    parts = [walked(run, array.pe) for run in runs(matrix, acts, array)]
    expected = {name: sum(part[name] for part in parts) for name in TOGGLES}
    assert {name: getattr(counted, name) for name in TOGGLES} == expected


def test_counts_do_not_depend_on_how_rows_tokens_and_beats_are_cut(monkeypatch):
    matrix, acts = layer(rows=21, columns=70, tokens=19)
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=5)
    whole = measure(matrix, Batches.whole(acts), array)
    for name, size in (
        ("algo.bitplane.rows.ENTRIES", 300),
        ("sim.activity.registers.ROWS", 3),
        ("sim.activity.closed.PIECE", 7),
        ("sim.activity.closed.AT_ONCE", 200),
        ("sim.activity.tables.KEPT_BYTES", 0),
    ):
        monkeypatch.setattr(name, size)

    def each():
        for at in (slice(0, 2), slice(2, 3), slice(3, 19)):
            yield [replace(act, values=act.values[at], scale=act.scale[at]) for act in acts]

    parts = measure(matrix, Batches(tokens=19, bits=8, each=each), array)
    assert parts == whole


def test_bubbles_read_no_buffer_and_sums_that_rows_share_are_named():
    fmt = replace(INT2, coefs=(1, 4), zero=False)
    gap = from_digits(fmt, np.zeros((6, 32), np.int64), np.ones((6, 1)))
    act = [quantize_activations(np.ones((2, 32)), 2)]
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=4)
    # Places 1 and 4 by 1 and -2: 8, 4, 2 and 1, each of two words. No pair misses, so none only doubles.
    assert activity(gap, act, array).bubbles == 0
    sign = [quantize_activations(np.ones((2, 32)), 1)]
    counted = activity(gap, sign, array)  # places 4 and 1: the place between is a bubble
    assert (counted.bubbles, counted.beats) == (12, 12 * 5)
    assert counted.activation_buffer_bits == 2 * 4 * 16 * 2  # four words a token, for two tiles of rows
    assert counted.shared_sum_beats == 0
    matrix, acts = layer()
    assert activity(matrix, acts, array).shared_sum_beats == 7 * 10 * 5 * 8
    masked = replace(matrix, terms=(replace(matrix.terms[0], mask="plane0"),))
    assert activity(masked, acts, array).shared_sum_beats == 0


def test_the_table_by_plane_names_planes_in_order():
    matrix, acts = layer()
    found = by_plane(matrix, acts, ArraySpec(pe=BitSerial(lanes=16)))
    assert list(found.plane) == ["plane0", "plane1", "sum", *(f"bit {i}" for i in range(8))]
    assert list(found.place) == [1, 2, 1, 1, 2, 4, 8, 16, 32, 64, -128]
    assert found.groupby("side").beats.sum().tolist() == [7 * 10 * 5 * 8 * 3] * 2


def test_a_sample_is_said_to_be_one():
    matrix, acts = layer(rows=60, columns=130, tokens=40)
    array = ArraySpec(pe=BitSerial())
    whole = measure(matrix, Batches.whole(acts), array, sample=None)
    sampled = measure(matrix, Batches.whole(acts), array, sample=30)
    assert (whole.sampled, sampled.sampled) == (False, True)
    registers = {"dot_toggles", "accumulator_toggles"}
    for name, count in asdict(whole.activity).items():
        other = getattr(sampled.activity, name)
        assert other == pytest.approx(count, rel=0.05) if name in registers else other == count, name


def test_what_cannot_be_counted_is_refused():
    matrix, acts = layer()
    array = ArraySpec(pe=BitSerial())
    with pytest.raises(ValueError, match=r"^sample must be at least 1, not 0$"):
        activity(matrix, acts, array, sample=0)
    with pytest.raises(TypeError, match=r"^sample must be an integer or None, not 1.5$"):
        activity(matrix, acts, array, sample=1.5)
    with pytest.raises(ValueError, match=r"^acc_width must be at most 64, not 65$"):
        activity(matrix, acts, replace(array, pe=BitSerial(acc_width=65)))
    with pytest.raises(ValueError, match=r"^acc_width must be at least 15 for 32 columns "):
        activity(matrix, acts, replace(array, pe=BitSerial(acc_width=13)))
    with pytest.raises(ValueError, match=r"^activations must hold at least one stream, not \(\)$"):
        activity(matrix, [], array)
    for name, value in (
        ("dataflow", "weight-stationary"),
        ("outer", "tokens"),
        ("planes", "inside"),
        ("skip", "words"),
        ("pack_kept", True),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must be .* to count activity, not {value!r}$"):
            activity(matrix, acts, replace(array, **{name: value}))
    other = quantize_activations(np.ones((7, 70)), 4)
    with pytest.raises(ValueError, match=r"^activations must have one width in all streams, not \[8, 4\]$"):
        activity(matrix, [acts[0], other], array)
