"""Counted cells: sums, and the parts that PEs share."""

from hw.counts import Resources, accumulator, summing, total


def test_cells_of_parts_add_up():
    parts = {"a": Resources(gate2=3, flop=1), "b": Resources(gate2=4, mux2=2)}
    assert total(parts) == Resources(gate2=7, flop=1, mux2=2)
    assert total({}) == Resources()


def test_an_accumulator_s_bits_above_the_dot_product_stand_apart():
    parts = accumulator(10, 32, carry=1)
    assert parts["accumulator"] == Resources(adder_bit=11, mux2=20, flop=10)
    assert parts["extension"] == Resources(adder_bit=22, mux2=44, flop=22)
    narrow = accumulator(10, 8, doubles=False)
    assert narrow["accumulator"] == Resources(adder_bit=8, mux2=8, flop=8)
    assert narrow["extension"] == Resources()


def test_the_ends_of_adders_stand_apart_and_no_bit_is_lost():
    for carries, each in ((False, 2), (True, 3)):
        parts = summing(100, 12, carries=carries)
        assert parts["ends"].adder_bit == 12 * each
        assert total(parts) == Resources(adder_bit=100)
