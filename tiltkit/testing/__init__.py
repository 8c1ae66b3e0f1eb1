"""Checks and problems with known answers, for people who write plugins."""
