"""What is learned. A task binds encoding, collation, head, loss, metrics and prediction; one file each."""
