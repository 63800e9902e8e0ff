"""Training: the embedded model's architecture and its supervised start."""
