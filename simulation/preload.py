"""What a Ray worker of a simulation imports as it starts; see ``simulation.superlink``."""

import os

# Each simulated client has one core, and Ray says so to torch only when the first message comes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from efmodel.light_imports import skip_compiler_and_sharding  # noqa: E402

skip_compiler_and_sharding()

import client_app.round  # noqa: E402, F401
