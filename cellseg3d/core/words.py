"""Put numbers and the nouns they count into sentences."""


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"`` or ``"3 images"``; the plural is formed with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
