"""Data-parallel training with compressed gradients; a leaf that nothing imports but its own command."""
