"""Which parameters learn, and in which form. A method sees names of parts, never data or tasks."""
