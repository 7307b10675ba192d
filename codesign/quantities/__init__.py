"""The registered quantities of a plan. Importing this package registers them all."""

from codesign.quantities import communication, compute, constraints, memory, model, step

__all__ = ["communication", "compute", "constraints", "memory", "model", "step"]
