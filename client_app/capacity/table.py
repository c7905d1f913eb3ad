"""What training costs on this machine at each exit of a model, as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from client_app.capacity.measuring import Budget, Cost, measure
from client_app.capacity.own import budget_of
from efmodel.config import EarlyExitConfig
from efmodel.model.loading import describe
from efmodel.settings import Settings


@dataclass(frozen=True)
class Measurement:
    """A model, run config keys that its cost depends on, and what a step may take."""

    config: EarlyExitConfig
    settings: Settings
    budget: Budget

    @classmethod
    def of(cls, model: str, run_config: Mapping[str, Any]) -> "Measurement":
        """Return the measurement of a preset, or of a saved model in a folder.

        Raises
        ------
        SettingsError
            If a key does not allow its value.
        ModelError
            If there is no such model.
        """
        settings = Settings.from_run_config(run_config)
        config, _ = describe(model)
        return cls(config, settings, budget_of(settings))

    def costs(self) -> list[Cost]:
        """Measure each exit, shallow to deep, until one does not fit."""
        model = self.config.to_json_string(use_diff=False)
        return list(measure(model, self.settings, self.budget))

    @staticmethod
    def table(costs: list[Cost]) -> Table:
        """Return the costs as a table for a terminal."""
        table = Table("exit", "parameters", "s per s of audio", "peak MB", "fits")
        for cost in costs:
            table.add_row(
                str(cost.exit),
                f"{cost.parameters:,}" if cost.parameters else "?",
                f"{cost.seconds:.4f}" if cost.seconds else "?",
                f"{cost.peak_mb:.0f}",
                f"no: {cost.obstacle}" if cost.obstacle else "yes",
            )
        return table
