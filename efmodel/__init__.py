"""The early-exit speech recogniser, and all that server and clients share.

The model classes load on first use, so that light programs (the command line, a device that
answers a query) do not pay for importing torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efmodel.config import EarlyExitConfig as EarlyExitConfig
    from efmodel.model.early_exit import EarlyExitForCTC as EarlyExitForCTC

__all__ = ["EarlyExitConfig", "EarlyExitForCTC"]


def __getattr__(name: str) -> Any:
    if name == "EarlyExitConfig":
        from efmodel.config import EarlyExitConfig

        return EarlyExitConfig
    if name == "EarlyExitForCTC":
        from efmodel.model.early_exit import EarlyExitForCTC

        return EarlyExitForCTC
    raise AttributeError(f"module 'efmodel' has no attribute {name!r}")
