"""Versions of Python and of the packages that a run uses."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("ef-asr", "flwr", "ray", "torch", "torchaudio", "transformers")


def versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that affect a run's results."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:  # a device may hold only what the app needs
            continue
    return installed


def versions_text(versions: dict[str, str]) -> str:
    """Return versions as text, such as "python 3.11.9, torch 2.11.0"; "unknown" if empty."""
    return ", ".join(f"{package} {number}" for package, number in versions.items()) or "unknown"
