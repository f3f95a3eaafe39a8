"""A sweep as a page: its words (`words`), its figures (`charts`), and the page that holds both (`write`). No torch."""

from burnish.report.sweeps.page import write
from burnish.report.sweeps.words import best_lines, ranked, shown

__all__ = ["best_lines", "ranked", "shown", "write"]
