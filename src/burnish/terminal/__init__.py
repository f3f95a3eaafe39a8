"""What a person sees in the terminal. Falls back to plain lines, with the same told in signs, where there is no terminal or no color."""

from burnish.terminal.checks import show_checks
from burnish.terminal.display import Display
from burnish.terminal.inspection import show_inspection
from burnish.terminal.rates import show_rates
from burnish.terminal.tables import evaluation_tables, prediction_table, summary_lines
from burnish.terminal.tokens import show_tokens

__all__ = [
    "Display",
    "evaluation_tables",
    "prediction_table",
    "show_checks",
    "show_inspection",
    "show_rates",
    "show_tokens",
    "summary_lines",
]
