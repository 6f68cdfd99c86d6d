"""Say what begins, where it takes so long that somebody would wonder."""

import logging

# The command line shows this logger's lines as they are; others see them on demand.
logger = logging.getLogger("cellseg3d.steps")


def say(text: str, *values: object) -> None:
    """Log what begins now, such as ``"measuring the halo, up to a minute"``."""
    logger.info(text, *values)
