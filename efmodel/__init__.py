"""The early-exit speech recogniser, and everything that server and clients share.

The model classes are imported on first use: the command line and a device that answers a query
need no torch, which takes seconds to import.
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
