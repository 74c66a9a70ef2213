"""Storage is counted, not claimed: the bytes in the file that the decoder needs."""

from __future__ import annotations

from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import ROLES


def stored_bytes(matrix: PackedMatrix) -> dict[str, int]:
    """Bytes of every stored array, by name, as written to disk."""
    counted = {name: plane.nbytes for name, plane in matrix.planes.items()}
    counted |= {name: ints.nbytes for name, ints in matrix.ints.items()}
    counted["exponent"] = matrix.exponent.nbytes
    counted |= {name: factor.nbytes for name, factor in matrix.factors.items()}
    return counted | ({} if matrix.row is None else {"row": matrix.row.nbytes})


def role_of(matrix: PackedMatrix, name: str) -> str:
    """What the stored array ``name`` is for, one of `ROLES`."""
    if name in matrix.planes:
        return matrix.planes[name].role
    if name == "exponent":
        return "exponents"
    for term in matrix.terms:
        for field, role in (("scale", "scales"), ("offset", "offsets"), ("zero", "zeros")):
            if getattr(term, field) == name:
                return role
    return "factors"


def breakdown(matrix: PackedMatrix) -> dict[str, float]:
    """Bits per weight by role, in the order of `ROLES`; roles that take nothing are left out."""
    bits = dict.fromkeys(ROLES, 0)
    for name, count in stored_bytes(matrix).items():
        bits[role_of(matrix, name)] += 8 * count
    return {role: total / (matrix.rows * matrix.columns) for role, total in bits.items() if total}


def bits_per_weight(matrix: PackedMatrix) -> float:
    """Stored bits over entries: everything the decoder needs, the file's header apart."""
    return 8 * sum(stored_bytes(matrix).values()) / (matrix.rows * matrix.columns)
