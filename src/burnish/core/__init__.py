"""What every layer may rely on: specs, registry, protocols, durations, run folders, errors. Imports no torch."""
