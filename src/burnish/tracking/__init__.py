"""Where a run is followed beside its own folder: TensorBoard, Weights & Biases, MLflow."""
