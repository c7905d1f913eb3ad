"""Add validated updates to a round's running sums, clipped where the run asks for it."""

import math
from collections.abc import Mapping

from flwr.common import NDArray

from server_app.strategy import clipping
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.reply import BadReplyError, ClientUpdate
from server_app.strategy.running_sums import NotFiniteError


class Fold:
    """One round's sums, and how updates enter them.

    Parameters
    ----------
    mean : PartialMean
        The empty sums.
    current : Mapping[str, NDArray]
        The model that the clients started from.
    bound : Bound
        Bound on the L2 norm of a client's change.
    """

    def __init__(
        self, mean: PartialMean, current: Mapping[str, NDArray], bound: clipping.Bound
    ) -> None:
        self._mean = mean
        self._current = current
        self._bound = bound
        self._spool = clipping.Spool() if math.isnan(bound.norm) else None

    def add(self, update: ClientUpdate) -> None:
        """Add an update to the sums; none of it if one of its tensors holds nan or inf.

        Raises
        ------
        BadReplyError
            Naming the tensor with nan or inf.
        """
        try:
            if self._bound.norm == 0:
                self._mean.add(update.arrays, update.weight, scales=update.scales)
            else:
                self._add_clipped(update)
        except NotFiniteError as error:
            raise BadReplyError(str(error)) from None

    def _add_clipped(self, update: ClientUpdate) -> None:
        changes, scales = clipping.as_changes(update.arrays, update.scales, self._current)
        norms = clipping.change_norms(changes, scales)
        if self._spool is not None:
            self._spool.put(changes, update.weight, scales, math.hypot(*norms.values()))
        else:
            self._mean.add(changes, update.weight, self._bound.factors(norms), scales)

    def result(self) -> PartialMean:
        """Return the sums of all updates; those on disk are added now, clipped to their median."""
        if self._spool is not None:
            for changes, weight, factors, scales in self._spool.replies():
                self._mean.add(changes, weight, factors, scales)
        return self._mean
