"""Published fits of a language model's loss against number format and training length: advice, no more.

Both were fitted to models far from what they are asked about here (1.2 and 12 billion parameters at most):
an orientation, to be shown with that note beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

#: log2 of the block that channel-wise scales count as, in the same source.
CHANNEL_WISE = 13.1567


@dataclass(frozen=True)
class TrainingFit:
    """Loss of training with floats of E exponent and M mantissa bits, scales shared by B values.

    ``L = n/N**a + d/D**b + e + D**b/N**a * log2(B) / (g (E + 1/2)**delta (M + 1/2)**nu)``.
    Source: Sun et al., "Scaling Laws for Floating Point Quantization Training", arXiv:2501.02423, equation 8
    and its table of constants.
    """

    n: float = 69.2343
    alpha: float = 0.2368
    d: float = 68973.0621
    beta: float = 0.5162
    epsilon: float = 1.9061
    gamma: float = 11334.5197
    delta: float = 3.1926
    nu: float = 2.9543

    def loss(
        self, parameters: float, tokens: float, exponent: int, mantissa: int, block: int | None
    ) -> float:
        """Predicted loss [nats per token]; block None: a scale for each channel."""
        _positive(parameters=parameters, tokens=tokens)
        clean = self.n / parameters**self.alpha + self.d / tokens**self.beta + self.epsilon
        return clean + tokens**self.beta / parameters**self.alpha * _log2(block) / self._precision(
            exponent, mantissa
        )

    def critical_tokens(self, parameters: float, exponent: int, mantissa: int, block: int | None) -> float:
        """Tokens beyond which more training data raises the loss."""
        _positive(parameters=parameters)
        size = self.d * parameters**self.alpha * self._precision(exponent, mantissa)
        return float((size / _log2(block)) ** (1 / (2 * self.beta)))

    def best_layout(self, bits: int) -> tuple[int, int]:
        """Exponent and mantissa bits of least predicted loss among floats of so many bits, sign included.

        Raises ValueError for fewer than 3 bits: no float has an exponent and a sign in less, and a choice.
        """
        if bits < 3:
            raise ValueError(f"bits must be at least 3, not {bits!r}")
        layouts = [(exponent, bits - 1 - exponent) for exponent in range(1, bits)]
        return max(layouts, key=lambda layout: self._precision(*layout))

    def _precision(self, exponent: int, mantissa: int) -> float:
        return float(self.gamma * (exponent + 0.5) ** self.delta * (mantissa + 0.5) ** self.nu)


@dataclass(frozen=True)
class PostTrainingFit:
    """Rise of the loss by quantizing a trained model's weights: ``k D**b / (N**a P**g)``.

    Source: Ouyang et al., "Low-Bit Quantization Favors Undertrained LLMs", arXiv:2411.17691. The exponents of
    D and N are confirmed by a second source to two digits; k and the exponent of the bits P are not.
    """

    k: float = 0.017
    alpha: float = 0.2261
    beta: float = 0.5251
    gamma: float = 5.4967

    def rise(self, parameters: float, tokens: float, bits: float) -> float:
        """Predicted rise of the loss [nats per token]."""
        _positive(parameters=parameters, tokens=tokens, bits=bits)
        return float(self.k * tokens**self.beta / (parameters**self.alpha * bits**self.gamma))


def _log2(block: int | None) -> float:
    if block is None:
        return CHANNEL_WISE
    if block < 2:
        raise ValueError(f"block must be at least 2, not {block!r}")
    return log2(block)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value!r}")
