"""Approximate kernels and studies of their error and speed; a leaf that nothing imports but its own command."""
