"""Whole registries: merged, checked, exported, and known to git."""
