"""And-gates and inverters where equal gates are one: what is equal by construction is seen to be."""

from __future__ import annotations

from typing import Any

FALSE, TRUE = 0, 1


class Graph:
    """Literals are integers, ``n ^ 1`` the inverse of ``n``; constants fold away.

    Kuehlmann and Krohm, "Equivalence checking using cuts and heaps", DAC 1997 (structural hashing).
    """

    def __init__(self) -> None:
        self.inputs: list[tuple[int, int] | str] = ["constant"]
        self.known: dict[tuple[int, int] | str, int] = {}

    def variable(self, name: str) -> int:
        """The variable of that name."""
        return self._node(name)

    def both(self, a: int, b: int) -> int:
        """``a`` and ``b``."""
        a, b = min(a, b), max(a, b)
        if a == FALSE or a == b ^ 1:
            return FALSE
        return b if a in (TRUE, b) else self._node((a, b))

    def inverse(self, a: int) -> int:
        """Not ``a``."""
        return a ^ 1

    def _node(self, key: tuple[int, int] | str) -> int:
        if key not in self.known:
            self.known[key] = 2 * len(self.inputs)
            self.inputs.append(key)
        return self.known[key]

    def difference(self, a: int, b: int) -> dict[str, bool] | None:
        """Values of variables at which ``a`` and ``b`` differ; None if they are equal everywhere."""
        if a == b:
            return None
        from dd.cudd import BDD

        bdd = BDD()
        made: dict[int, Any] = {0: bdd.false}
        differ = bdd.apply("xor", self._diagram(bdd, made, a), self._diagram(bdd, made, b))
        return None if differ == bdd.false else {k: bool(v) for k, v in bdd.pick(differ).items()}

    def _diagram(self, bdd: Any, made: dict[int, Any], literal: int) -> Any:
        stack = [literal >> 1]
        while stack:
            node = stack[-1]
            key = self.inputs[node]
            if node in made:
                stack.pop()
            elif isinstance(key, str):
                bdd.declare(key)
                made[node] = bdd.var(key)
            elif missing := [side >> 1 for side in key if side >> 1 not in made]:
                stack += missing
            else:
                a, b = (~made[side >> 1] if side & 1 else made[side >> 1] for side in key)
                made[node] = a & b
        return ~made[literal >> 1] if literal & 1 else made[literal >> 1]
