"""Weights of other toolkits as starts: readers of their checkpoint files, and the maps to thaw's layers."""
