"""Two's complement, and parameters that must be integers."""

from __future__ import annotations


def wrap(value: int, width: int) -> int:
    """``value`` reduced to ``width``-bit two's complement."""
    half = 1 << (width - 1)
    return (value + half) % (2 * half) - half


def signed_bits(low: int, high: int) -> int:
    """Bits of the two's-complement register that holds every integer of [``low``, ``high``].

    >>> signed_bits(-128, 127), signed_bits(0, 128), signed_bits(0, 0)
    (8, 9, 1)
    """
    if low > high:
        raise ValueError(f"low must be at most high={high!r}, not {low!r}")
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0)


def require_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse a parameter that is no integer of [``low``, ``high``]."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, not {value!r}")
    if high is not None and value > high:
        raise ValueError(f"{name} must be at most {high}, not {value!r}")
