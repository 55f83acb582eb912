"""Rooflines of chips and of this machine, with networks beneath them; a leaf that nothing imports but its own
command."""
