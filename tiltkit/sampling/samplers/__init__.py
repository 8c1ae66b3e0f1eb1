"""The samplers, one file each: options, `init`, `step`."""
