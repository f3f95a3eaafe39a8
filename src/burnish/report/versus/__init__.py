"""A comparison as a page: read it (`reading`), put it into words (`words`), draw and tabulate it, write it (`write`). No torch."""

from burnish.report.versus.page import write
from burnish.report.versus.reading import is_comparison, read

__all__ = ["is_comparison", "read", "write"]
