"""What a benchmark finds."""

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
        """Measured over reference."""
        return self.measured / self.reference

    def as_dict(self) -> dict[str, float | str]:
        """Return the figure as JSON holds it."""
        return {**asdict(self), "ratio": self.ratio}
