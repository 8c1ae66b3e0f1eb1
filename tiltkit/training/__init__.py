"""Train a prior on one's own images: denoising score matching for the network in `priors`."""
