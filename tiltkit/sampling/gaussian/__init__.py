"""Gaussian conditioning: the linear-Gaussian algebra, and corrections for other likelihoods."""
