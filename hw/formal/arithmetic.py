"""Gates in which exclusive ors and majorities are seen, so that an adder's bits are known as what they are.

A sum bit of a full adder is the exclusive or of three bits, its carry their majority, and
``sum + 2 carry = a + b + c``; `hw.formal.rewriting` calculates with that. However an adder was written down
as and-gates and inverters, it is found here while the gates are put in, by their structure.

Source: Yu, Ciesielski and Mishchenko, "Fast Algebraic Rewriting Based on And-Inverter Graphs", IEEE TCAD 2018
(full adders found in and-inverter graphs, sums rewritten). Differs in: found bottom up by structural hashing,
not by truth tables of cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

FALSE, TRUE = 0, 1

#: A gate: its kind (and, xor, maj) and its inputs as literals; or the name of a variable.
Gate = tuple[str, tuple[int, ...]] | str


_OPERATIONS: dict[str, Callable[..., int]] = {
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "maj": lambda a, b, c: a & b | c & (a ^ b),
}


class Arithmetic:
    """Literals are integers, ``n ^ 1`` the inverse of ``n``, ``n >> 1`` the gate; an `Algebra` of circuits.

    Inputs of a gate stand before it. Equal gates are one.
    """

    def __init__(self) -> None:
        self.gates: list[Gate] = ["constant"]
        self.known: dict[Gate, int] = {}
        #: majorities by the gates of their inputs
        self.majorities: dict[frozenset[int], list[int]] = {}

    def variable(self, name: str) -> int:
        """The variable of that name."""
        return self._gate(name)

    def inverse(self, a: int, /) -> int:
        """Not ``a``."""
        return a ^ 1

    def both(self, a: int, b: int, /) -> int:
        """``a`` and ``b``."""
        a, b = min(a, b), max(a, b)
        if a == FALSE or a == b ^ 1:
            return FALSE
        if a in (TRUE, b):
            return b
        for one, other in ((a, b), (b, a)):
            found = self._absorbed(one, other)
            if found is not None:
                return found
        if a & b & 1:
            found = self._neither(a ^ 1, b ^ 1)
            if found is not None:
                return found
        return self._gate(("and", (a, b)))

    def odd(self, a: int, b: int) -> int:
        """Exclusive or."""
        phase = (a ^ b) & 1
        a, b = sorted((a & ~1, b & ~1))
        if a == b:
            return FALSE ^ phase
        if a == FALSE:
            return b ^ phase
        for one, other in ((a, b), (b, a)):
            if other in self.inputs("xor", one):
                return sum(self.inputs("xor", one)) - other ^ phase
        return self._gate(("xor", (a, b))) ^ phase

    def majority(self, a: int, b: int, c: int) -> int:
        """Whether at least two are 1."""
        found = self.settled(a, b, c)
        if found is not None:
            return found
        inputs = sorted((a, b, c))
        phase = inputs[0] & 1  # a majority of inverses is the inverse of the majority
        fresh = len(self.gates)
        made = self._gate(("maj", tuple(bit ^ phase for bit in inputs)))
        if made == 2 * fresh:
            self.majorities.setdefault(frozenset(bit >> 1 for bit in inputs), []).append(fresh)
        return made ^ phase

    def inputs(self, kind: str, literal: int) -> tuple[int, ...]:
        """The inputs of a literal's gate if it is of this kind and not inverted, else ()."""
        gate = self.gates[literal >> 1]
        return gate[1] if not literal & 1 and gate[0] == kind and not isinstance(gate, str) else ()

    def simulate(self, values: Sequence[int], full: int, cut: Mapping[int, int]) -> list[int]:
        """All gates, for as many cases side by side as ``full`` has bits.

        Parameters: values, of variables, by gate; cut, literals that variables stand for, instead
        """
        found = list(values)

        def bit(literal: int) -> int:
            return found[literal >> 1] ^ (full if literal & 1 else 0)

        for number, gate in enumerate(self.gates):
            if number in cut:
                found[number] = bit(cut[number])
            elif not isinstance(gate, str):
                found[number] = _OPERATIONS[gate[0]](*map(bit, gate[1]))
        return found

    def _absorbed(self, a: int, b: int) -> int | None:
        """``a`` and ``b`` where ``b`` is, or inverts, a gate with ``a`` among its inputs."""
        inputs = self.inputs("and", b & ~1)
        if a in inputs:
            rest = inputs[0] if inputs[1] == a else inputs[1]
            return self.both(a, rest ^ 1) if b & 1 else b
        if a ^ 1 in inputs:
            return a if b & 1 else FALSE
        return None

    def _neither(self, p: int, q: int) -> int | None:
        """Neither ``p`` nor ``q``, where that is an exclusive or, or their or a majority."""
        first, second = self.inputs("and", p), self.inputs("and", q)
        if first and second and {bit ^ 1 for bit in first} == {*second}:
            return self.odd(*first)
        for (x, y), others in ((first or (0, 0), second), (second or (0, 0), first)):
            for at, one in enumerate(others):
                if x and one in (self._known_odd(x, y), self._known_either(x, y)):
                    return self.majority(x, y, others[1 - at]) ^ 1
        return None

    def _known_odd(self, a: int, b: int) -> int | None:
        inputs = tuple(sorted((a & ~1, b & ~1)))
        found = self.known.get(("xor", inputs))
        return None if found is None else found ^ (a ^ b) & 1

    def _known_either(self, a: int, b: int) -> int | None:
        found = self.known.get(("and", tuple(sorted((a ^ 1, b ^ 1)))))
        return None if found is None else found ^ 1

    def settled(self, a: int, b: int, c: int) -> int | None:
        """A majority that is no gate of its own."""
        for x, y, z in ((a, b, c), (b, c, a), (c, a, b)):
            if x == y:
                return x
            if x == y ^ 1:
                return z
            if x in (FALSE, TRUE):
                return self.both(y ^ x, z ^ x) ^ x
            # A carry that is added to the same two bits once more carries again.
            if {y ^ (x & 1), z ^ (x & 1)} <= {*self.inputs("maj", x & ~1)}:
                return x
        return None

    def _gate(self, key: Gate) -> int:
        if key not in self.known:
            self.known[key] = 2 * len(self.gates)
            self.gates.append(key)
        return self.known[key]
