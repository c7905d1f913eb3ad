"""The deepest exit that this node can train."""

from flwr.app import Context

from efmodel.partition import capacity_of
from efmodel.settings import Settings


def capacity(context: Context, settings: Settings, num_exits: int) -> int:
    """Return this node's capacity, 1..``num_exits``.

    A deployed node says it in its node config (``--node-config 'capacity=2'``); a simulated one has
    what the run config's ``capacities`` gives its partition; any other trains everything.

    Raises
    ------
    ValueError
        If the node config's capacity is no exit of the model.
    """
    node = context.node_config
    if "capacity" in node:
        found = node["capacity"]
        if type(found) is not int or not 1 <= found <= num_exits:
            raise ValueError(f"node-config capacity: found {found!r}, wanted 1 to {num_exits}")
        return found
    if "partition-id" in node:
        partition, partitions = int(node["partition-id"]), int(node["num-partitions"])
        return capacity_of(settings.capacities, partition, partitions, num_exits)
    return num_exits
