"""The engine: a problem made ready, a sampler driven down its noise ladder, checkpoints."""
