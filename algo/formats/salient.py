"""Two precisions in one matrix: integer codes where a mask is set, one sign plane elsewhere."""

from __future__ import annotations

from algo.bitplane.format import Digit
from algo.bitplane.matrix import Term


def terms(bits: int) -> tuple[Term, ...]:
    """Terms of planes ``sign`` (``scale``, ``mean``) and ``code0`` .. (``code_scale``, ``code_zero``).

    The plane ``salient`` is the mask.
    """
    others = Term(
        planes=("sign",),
        coefs=(1,),
        digit=Digit.BIPOLAR,
        mask="~salient",
        scale="scale",
        offset="mean",
    )
    kept = Term(
        planes=tuple(f"code{p}" for p in range(bits)),
        coefs=tuple(1 << p for p in range(bits)),
        digit=Digit.UNIPOLAR,
        mask="salient",
        scale="code_scale",
        zero="code_zero",
    )
    return others, kept
