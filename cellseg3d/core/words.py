"""Numbers and the nouns they count, in sentences for people."""


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"`` or ``"3 images"``; the noun takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
