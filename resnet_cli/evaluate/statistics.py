"""How far counts can be trusted: Wilson's interval and McNemar's test."""

from dataclasses import dataclass
from math import sqrt

Z = 1.959963984540054  # quantile of the normal distribution that leaves 2.5 % on each side


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, and the 95 % interval of the share that a larger sample would show."""

    right: int
    images: int
    value: float | None  # None of no images
    low: float | None
    high: float | None


def share(right: int, images: int) -> Share:
    """A share with Wilson's score interval, which keeps within 0 to 1 and suits few images.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    1927.
    """
    if not images:
        return Share(right, images, None, None, None)
    value = right / images
    scale = 1 + Z**2 / images
    middle = (value + Z**2 / (2 * images)) / scale
    half = Z / scale * sqrt(value * (1 - value) / images + Z**2 / (4 * images**2))
    return Share(right, images, value, max(0.0, middle - half), min(1.0, middle + half))


def mcnemar(gained: int, lost: int) -> float:
    """Probability that chance alone parts two classifiers so far, by McNemar's exact test.

    Args:
        gained: images that only the one has right.
        lost: images that only the other has right.

    Returns:
        Two-sided p of the binomial distribution, 0 to 1, for any counts.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
