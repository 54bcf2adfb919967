r"""What many data sets showed: the prior of a gain, which a user's own data update."""

__all__ = ["Posterior", "Prior", "prior_of"]

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Posterior:
    r"""What is known of a gain in points after measurement: a normal distribution.

    Attributes:
        mean: The mean.
        deviation: The standard deviation.
    """

    mean: float
    deviation: float

    @property
    def low(self) -> float:
        r"""The lower end of the 95 % interval."""
        return self.mean - 1.96 * self.deviation

    @property
    def high(self) -> float:
        r"""The upper end of the 95 % interval."""
        return self.mean + 1.96 * self.deviation

    @property
    def probability(self) -> float:
        r"""The probability that the gain is above 0."""
        return 0.5 * (1 + math.erf(self.mean / self.deviation / math.sqrt(2)))

    def as_dict(self) -> dict[str, float]:
        r"""Returns all figures as a dictionary that the ``json`` module can write."""
        return {**asdict(self), "low": self.low, "high": self.high, "probability": self.probability}


@dataclass(frozen=True)
class Prior:
    r"""The gains that other data sets showed: a normal distribution, in points.

    Attributes:
        mean: The mean over data sets.
        deviation: The standard deviation between data sets.
        sets: The number of data sets.
    """

    mean: float
    deviation: float
    sets: int

    def update(self, measured: float, standard_error: float) -> Posterior:
        r"""Returns the posterior of the gain: the precision-weighted mean of prior and measurement.

        Args:
            measured: The measured gain, in points.
            standard_error: Its standard error, in points, above 0.
        """
        precisions = 1 / self.deviation**2, 1 / standard_error**2
        mean = (precisions[0] * self.mean + precisions[1] * measured) / sum(precisions)
        return Posterior(mean, sum(precisions) ** -0.5)


@cache
def _table() -> dict[str, Prior]:
    content = json.loads(files(__package__).joinpath("gains.json").read_text(encoding="utf-8"))
    return {name: Prior(row["mean"], row["deviation"], row["sets"]) for name, row in content["gains"].items()}


def prior_of(change: str, *, pretrained: bool, standard: bool) -> Prior:
    r"""Returns the prior of what a change gains.

    Args:
        change: The change, such as ``"motions"``.
        pretrained: Whether the network was trained on other images.
        standard: Whether training images have standard views.
    """
    network = "pretrained" if pretrained else "from scratch"
    return _table()[f"{change}, {network}, {'standard views' if standard else 'no views'}"]
