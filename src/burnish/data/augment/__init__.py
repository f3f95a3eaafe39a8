"""Rows in other words: new training rows made of those that there are, anew at every step."""
