"""Statistics of posterior samples, and the certificate that says how far they can be trusted."""
