"""What noise is worth to federations of unlike size, and what it costs their models.

    python -m simulation.bench.epsilon [--rounds N] [--model PRESET]

For each number of clients: epsilon with the noise multiplier 1, the multiplier for epsilon 8, and
how much longer that noise is, in a round's mean, than the longest mean of clipped updates.
"""

import math
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from efmodel.config import preset
from server_app.accountant import epsilon, multiplier_for, release
from simulation.heterofl import num_parameters

EPSILON = 8.0
# Clients, those of them that train in a round, delta. The first three are the sample's, the
# corpus speechocean762's and LibriSpeech's speakers, of whom 15 % train in a round.
FEDERATIONS = ((18, 3, 1e-5), (125, 19, 1e-5), (2351, 353, 1e-5), (1_000_000, 1000, 1e-7))


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of the run.")] = 96,
    model: Annotated[str, typer.Option(help="Preset that is trained.")] = "tiny",
) -> None:
    """Print the table."""
    values = num_parameters(preset(model))
    table = Table(
        "clients", "cohort", "delta", "epsilon at z = 1, fixed", "poisson",
        f"z for epsilon {EPSILON:g}, fixed", "poisson", "noise over update, fixed", "poisson",
        title=f"{rounds} rounds, {model}, {values:,} values",
    )  # fmt: skip
    for clients, cohort, delta in FEDERATIONS:
        shares = (1.0, cohort / clients)
        spent = [epsilon({release(1.0, share): rounds}, delta) for share in shares]
        noise = [multiplier_for(EPSILON, delta, rounds, share) for share in shares]
        # z C / cohort on each value of a mean, whose own norm is at most C.
        lengths = [math.sqrt(values) * multiplier / cohort for multiplier in noise]
        numbers = [f"{number:.3g}" for number in (*spent, *noise, *lengths)]
        table.add_row(f"{clients:,}", str(cohort), f"{delta:g}", *numbers)
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
