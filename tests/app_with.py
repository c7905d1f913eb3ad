"""The Flower app with its ClientApp replaced by one that misbehaves."""

import shutil
from pathlib import Path

from simulation.superlink import app_folder


def app_with(folder: Path, client: Path) -> Path:
    """Copy the app under ``folder`` with ``app`` of the file ``client`` as its ClientApp."""
    source = app_folder(folder)
    for package in ("efmodel", "server_app", "client_app"):
        shutil.copytree(
            source / package, folder / "app" / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(client, folder / "app" / client.name)
    project = (source / "pyproject.toml").read_text()
    project = project.replace('clientapp = "client_app:app"', f'clientapp = "{client.stem}:app"')
    project = project.replace("fab-include = [", f'fab-include = ["{client.name}", ')
    (folder / "app" / "pyproject.toml").write_text(project)
    return folder / "app"
