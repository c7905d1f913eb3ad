"""Tests stay off the network; said here, before any library that asks is imported."""

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
