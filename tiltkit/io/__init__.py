"""Result files, and which reader reads an input file."""
