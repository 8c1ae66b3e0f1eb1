"""Gaussian conditioning: the linear-Gaussian algebra, and what other likelihoods add to it."""
