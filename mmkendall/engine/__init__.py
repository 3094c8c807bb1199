"""Loops and hooks that a config can name, and what the tools share."""

from mmkendall.engine.loops import DistillValLoop

__all__ = ['DistillValLoop']
