"""The log of the server app as JSON, one object a line, for programs that collect logs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 10_000_000  # a larger file becomes log.jsonl.1, and a new one starts


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a line with time (UTC), level and message."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage().strip()
        line = {"time": when, "level": record.levelname, "message": message}
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Also write to ``path`` what this app and Flower log within the ``with`` block."""
    handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(_JsonLines())
    logger = logging.getLogger("flwr")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
