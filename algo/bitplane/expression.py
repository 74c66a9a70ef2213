"""Planes that are computed, never stored: boolean expressions over stored planes.

Written in Python's own bit operators, ``"sign"``, ``"zone & ~salient"``, ``"~(a ^ b)"``, and parsed by
Python's own parser; nothing but names, ``~``, ``&``, ``|``, ``^`` and the four `PAIRS` is let through.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from algo.bitplane.words import Words

_OPERATORS = {ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or, ast.BitXor: np.bitwise_xor}
#: Both members of each pair of columns (0 and 1, 2 and 3, ..) take the bit of the even or odd one, both of
#: each pair of rows that of the upper or lower one: what a Haar pair stores once, wiring in hardware. An odd
#: column without its pair reads 0, a last row without its pair itself.
PAIRS = ("even", "odd", "upper", "lower")

_EVEN = np.uint64(0x5555555555555555)
_REFUSAL = f"expression must be planes joined by ~ & | ^ {' '.join(PAIRS)}, not "


@lru_cache(maxsize=1024)
def _tree(expression: str) -> ast.expr:
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise ValueError(f"{_REFUSAL}{expression!r}") from None
    if not _allowed(tree):
        raise ValueError(f"{_REFUSAL}{expression!r}")
    return tree


def _allowed(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id not in PAIRS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert) and _allowed(node.operand)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATORS and _allowed(node.left) and _allowed(node.right)
    if isinstance(node, ast.Call):
        called = isinstance(node.func, ast.Name) and node.func.id in PAIRS
        return called and len(node.args) == 1 and not node.keywords and _allowed(node.args[0])
    return False


def plane_names(expression: str) -> tuple[str, ...]:
    """Stored planes the expression reads, each once, in order of appearance.

    >>> plane_names("zone & ~salient")
    ('zone', 'salient')
    """
    nodes = ast.walk(_tree(expression))
    found = [node for node in nodes if isinstance(node, ast.Name) and node.id not in PAIRS]
    found.sort(key=lambda node: node.col_offset)
    return tuple(dict.fromkeys(node.id for node in found))


def evaluate(expression: str, planes: Mapping[str, Words], valid: Words) -> Words:
    """Words of the expression over ``planes``; pad bits, which ``~`` sets, are cleared by ``valid``."""
    return _evaluate(_tree(expression), planes) & valid


def _evaluate(node: ast.expr, planes: Mapping[str, Words]) -> Words:
    if isinstance(node, ast.Name):
        return planes[node.id]
    if isinstance(node, ast.UnaryOp):
        return ~_evaluate(node.operand, planes)
    if isinstance(node, ast.BinOp):
        combine = _OPERATORS[type(node.op)]
        return np.asarray(combine(_evaluate(node.left, planes), _evaluate(node.right, planes)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _paired(node.func.id, _evaluate(node.args[0], planes))
    raise TypeError(f"{_REFUSAL}{ast.dump(node)}")


def _paired(which: str, words: Words) -> Words:
    if which == "even":
        return (words & _EVEN) | ((words & _EVEN) << np.uint64(1))
    if which == "odd":
        return (words & ~_EVEN) | ((words & ~_EVEN) >> np.uint64(1))
    rows = np.arange(len(words))
    at = rows & ~1 if which == "upper" else np.minimum(rows | 1, len(words) - 1)
    return words[at]
