"""One figure of a benchmark."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """A measurement beside its reference, both from the same run."""

    what: str
    measured: float
    reference: float
    unit: str
    reference_is: str

    @property
    def ratio(self) -> float:
        """The measurement divided by its reference."""
        return self.measured / self.reference

    def as_dict(self) -> dict[str, float | str]:
        """Return the figure and its ratio as they are written to JSON."""
        return {**asdict(self), "ratio": self.ratio}
