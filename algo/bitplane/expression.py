"""Planes that are computed, never stored: boolean expressions over stored planes.

Written in Python's own bit operators, ``"sign"``, ``"zone & ~salient"``, ``"~(a ^ b)"``, and parsed by
Python's own parser; nothing but names, ``~``, ``&``, ``|``, ``^`` is let through.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from algo.bitplane.words import Words

_OPERATORS = {ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or, ast.BitXor: np.bitwise_xor}


@lru_cache(maxsize=1024)
def _tree(expression: str) -> ast.expr:
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise ValueError(f"expression must be planes joined by ~ & | ^, not {expression!r}") from None
    for node in ast.walk(tree):
        allowed = isinstance(node, ast.Name | ast.Load | ast.Invert | ast.UnaryOp | ast.BinOp)
        if not allowed and type(node) not in _OPERATORS:
            raise ValueError(f"expression must be planes joined by ~ & | ^, not {expression!r}")
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Invert):
            raise ValueError(f"expression must be planes joined by ~ & | ^, not {expression!r}")
    return tree


def plane_names(expression: str) -> tuple[str, ...]:
    """Stored planes the expression reads, each once, in order of appearance.

    >>> plane_names("zone & ~salient")
    ('zone', 'salient')
    """
    found = [node for node in ast.walk(_tree(expression)) if isinstance(node, ast.Name)]
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
    raise TypeError(f"expression must be planes joined by ~ & | ^, not {ast.dump(node)}")
