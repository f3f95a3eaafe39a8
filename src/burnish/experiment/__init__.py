"""What is found out by training more than once. Nothing is imported here: each experiment is a module, and some begin before torch is there."""
