"""What software a run runs on."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("ef-asr", "flwr", "ray", "torch", "torchaudio", "transformers")


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that matter to a run, as installed here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an environment may hold just what the app needs
            continue
    return found


def said(versions: dict[str, str]) -> str:
    """Return versions in words, such as "python 3.11.9, torch 2.11.0"; "unknown" for none."""
    return ", ".join(f"{name} {number}" for name, number in versions.items()) or "unknown"
