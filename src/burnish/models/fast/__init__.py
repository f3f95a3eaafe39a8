"""Work that the loss never sees, left out of any transformers model: exact, and each part on its own."""
