"""Say what begins, where it takes so long that somebody would wonder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# The command line shows this logger's lines as they are; others see them on demand.
logger = logging.getLogger("cellseg3d.steps")


def say(text: str, *values: object) -> None:
    """Log what begins now, such as ``"measuring the halo, up to a minute"``."""
    logger.info(text, *values)


@contextmanager
def each_line_once() -> Iterator[None]:
    """Say each line only once in a block, such as one that begins its work again."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in said
        said.add(text)
        return new

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
