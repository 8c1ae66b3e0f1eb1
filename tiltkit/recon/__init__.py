"""From an input file to a result file: scans, slices, tiles, and where a result comes from."""
