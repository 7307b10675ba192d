"""From the sections of `run:` that say what a run gives and costs to the inputs of its graph."""
