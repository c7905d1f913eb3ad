"""Flower's entry points ``server_app:app`` and ``client_app:app``, imported when Flower asks."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package whose attribute ``app`` is the Flower app in its module ``app``.

    Reading the attribute imports the module. Whoever imports another module of the package, such
    as a strategy, does not wait for Flower and torch.
    """

    @property
    def app(self) -> Any:
        """The ServerApp or ClientApp."""
        return importlib.import_module(f"{self.__name__}.app").app

    @app.setter
    def app(self, module: ModuleType) -> None:
        """Ignore the import system, which sets the module ``app`` as an attribute here."""


def make_lazy(package: str) -> None:
    """Give a package that is being imported the attribute ``app``."""
    sys.modules[package].__class__ = _Package
