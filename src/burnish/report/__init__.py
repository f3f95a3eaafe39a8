"""A run folder as one self-contained page: read it (`collect`), draw its curves (`figures`), write it (`page.write`). No torch."""
