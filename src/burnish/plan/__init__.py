"""What a run is made of, known before it starts. No torch: parameters are asked only for their name, size and whether they learn."""
