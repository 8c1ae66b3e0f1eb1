"""Conditioning on linear-Gaussian data: diagonal and iterative algebra, other likelihoods."""
