"""Update rules that torch has not: they import torch, and stand apart from the specs, which must not."""
