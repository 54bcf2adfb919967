r"""A fitted augmenter as one page to read: an HTML file that needs no network."""

from .page import write_report

__all__ = ["write_report"]
