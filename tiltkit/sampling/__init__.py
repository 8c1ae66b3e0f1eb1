"""Posterior samplers and what they report about themselves."""
