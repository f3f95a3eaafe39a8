"""How the loop runs: steps, micro-batches, devices, checkpoints, events. Knows no task, no method, no vendor."""
