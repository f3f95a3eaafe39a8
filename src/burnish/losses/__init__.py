"""What is minimised: pure functions that give a value for each example, never a mean over a micro-batch."""
