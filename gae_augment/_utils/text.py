r"""Texts that any output can show."""

__all__ = ["printable"]


def printable(text: str, encoding: str | None = None) -> str:
    r"""Returns a text with escapes in place of characters that an encoding lacks; ``None`` stands for UTF-8.

    Names of files that are not UTF-8 hold such characters.
    """
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
