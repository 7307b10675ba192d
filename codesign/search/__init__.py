"""Decisions: the best layout, the best shape, the hardware to ask for, and why not the others."""
