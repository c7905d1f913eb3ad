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
    max_update_norm : float
        Bound on the L2 norm of a client's change: 0 for none, nan for the cohort's median.
    """

    def __init__(
        self, mean: PartialMean, current: Mapping[str, NDArray], max_update_norm: float
    ) -> None:
        self._mean = mean
        self._current = current
        self._bound = max_update_norm
        self._spool = clipping.Spool() if math.isnan(max_update_norm) else None

    def add(self, update: ClientUpdate) -> None:
        """Add an update to the sums; none of it if one of its tensors holds nan or inf.

        Raises
        ------
        BadReplyError
            Naming the tensor with nan or inf.
        """
        try:
            if self._bound == 0:
                self._mean.add(update.arrays, update.weight, scales=update.scales)
            else:
                self._add_clipped(update)
        except NotFiniteError as error:
            raise BadReplyError(str(error)) from None

    def _add_clipped(self, update: ClientUpdate) -> None:
        norm, size = clipping.update_norm(update.arrays, self._current, update.scales)
        if self._spool is not None:
            self._spool.put(update.arrays, update.weight, update.scales, norm, size)
        else:
            factor = clipping.shrinking(norm, self._bound)
            self._mean.add(update.arrays, update.weight, factor, update.scales)

    def result(self) -> PartialMean:
        """Return the sums of all updates; those on disk are added now, clipped to their median."""
        if self._spool is not None:
            for arrays, weight, factor, scales in self._spool.replies():
                self._mean.add(arrays, weight, factor, scales)
        return self._mean
