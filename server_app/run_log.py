"""What the server app says, one JSON object a line, for programs that gather logs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

LARGEST = 10_000_000  # bytes; then the file becomes log.jsonl.1 and another begins


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a line: when, in UTC; how grave; what."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname, "message": record.getMessage().strip()}
        return json.dumps(said, ensure_ascii=False)


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Write what is logged meanwhile, by us and by Flower, to ``path`` too."""
    handler = RotatingFileHandler(path, maxBytes=LARGEST, backupCount=1, encoding="utf-8")
    handler.setFormatter(_JsonLines())
    logger = logging.getLogger("flwr")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
