"""Skald's kernel: everything a context needs to take work in and deliver it exactly once."""
