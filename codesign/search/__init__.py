"""Decisions over many plans: what moved between two of them, and which of many is best."""
