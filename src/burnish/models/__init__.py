"""From a name to a model: find and check weights, load them without running foreign code, know a model's parts."""
