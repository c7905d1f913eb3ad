"""What noise is worth to federations of unlike size, and what it costs their models.

    python -m simulation.bench.epsilon [--rounds N] [--model PRESET]

For each number of clients: epsilon with the noise multiplier 1, the multiplier for epsilon 8, and
how much longer that noise is, in a round's mean, than the longest mean of clipped updates. Then
noise on the device: what ``local-epsilon`` comes to in one round, and in all of them.
"""

import math
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from efmodel.config import preset
from server_app.accountant import epsilon, multiplier_for, release
from server_app.privacy import local_multiplier
from simulation.heterofl import num_parameters

EPSILON = 8.0
# Clients, those of them that train in a round, delta. The first three are the sample's, the
# corpus speechocean762's and LibriSpeech's speakers, of whom 15 % train in a round.
FEDERATIONS = ((18, 3, 1e-5), (125, 19, 1e-5), (2351, 353, 1e-5), (1_000_000, 1000, 1e-7))

LOCAL_EPSILONS, LOCAL_DELTA = (0.1, 1.0, 8.0, 20.0), 1e-5


def central(rounds: int, model: str) -> Table:
    """Return the table of noise on the server."""
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
    return table


def local(rounds: int) -> Table:
    """Return the table of noise on the device."""
    table = Table("local-epsilon", "z", "epsilon of 1 round", f"of {rounds} rounds")
    for nominal in LOCAL_EPSILONS:
        multiplier = local_multiplier(nominal, LOCAL_DELTA)
        spent = [epsilon({release(multiplier): count}, LOCAL_DELTA) for count in (1, rounds)]
        table.add_row(f"{nominal:g}", *(f"{number:.3g}" for number in (multiplier, *spent)))
    return table


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of the run.")] = 96,
    model: Annotated[str, typer.Option(help="Preset that is trained.")] = "tiny",
) -> None:
    """Print both tables."""
    console = Console(width=160)
    console.print(central(rounds, model))
    console.print(local(rounds))


if __name__ == "__main__":
    typer.run(main)
