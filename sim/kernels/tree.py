"""Code that counts ones lane by lane with carry-save adders: many words, few popcounts.

A full adder takes three words of one weight to one of that weight and one of twice it, so sixteen words need
a popcount of their sixteens alone (Harley and Seal; Muła, Kurz, Lemire, Computer Journal 61, 2018). Where the
words are XORs of two operands the adders of the first level shrink: running XORs ``a, u, s`` of successive
words give their carry, ``u ? ~s : a``, in one operation, and a running XOR of ``w ^ x`` is that of the w,
laid down once, with that of the x, made once per token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sim.kernels.wide import CARRY, full_adder, logic3


class Counter:
    """Words held by the power of two that a one in them stands for, at most two of each."""

    def __init__(self, builder: Any, held: Sequence[Any] = ()) -> None:
        """``held``: one word of each power from 2 on."""
        self.builder = builder
        self.levels: list[list[Any]] = [[], *([word] for word in held)]

    def add(self, level: int, word: Any) -> None:
        """One more word whose ones stand for ``2**level``."""
        while len(self.levels) <= level:
            self.levels.append([])
        here = self.levels[level]
        here.append(word)
        if len(here) == 3:
            kept, carry = full_adder(self.builder, *here)
            self.levels[level] = [kept]
            self.add(level + 1, carry)

    def add_running(self, before: Any | None, odd: Any, even: Any) -> None:
        """Two words by their running XORs, ``before`` that of what came earlier, None at the start."""
        if before is None:
            self.add(1, self.builder.and_(odd, self.builder.not_(even)))
        else:
            self.add(1, logic3(self.builder, CARRY, odd, before, even))

    def settled(self) -> list[Any]:
        """One word of each power, or None, from 1 on."""
        level = 0
        while level < len(self.levels):
            here = self.levels[level]
            if len(here) == 2:
                left, right = here
                self.levels[level] = [self.builder.xor(left, right)]
                self.add(level + 1, self.builder.and_(left, right))
            level += 1
        return [here[0] if here else None for here in self.levels]


def weighted(builder: Any, words: Sequence[Any], ones: Callable[[Any, Any], Any]) -> Any:
    """``sum_i 2**i * ones(words[i])`` lane by lane, by Horner's rule; absent words are None."""
    total = None
    for word in reversed(words):
        if total is not None:
            total = builder.add(total, total)
        if word is not None:
            counted = ones(builder, word)
            total = counted if total is None else builder.add(total, counted)
    return total
