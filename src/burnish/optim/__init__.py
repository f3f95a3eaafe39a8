"""How parameters move: groups of parameters, optimizers, schedules of the learning rate."""
