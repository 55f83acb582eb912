"""Schedules written and searched for with Apache TVM, for this CPU, a GPU and the Cortex-M4; a leaf that nothing imports but its command."""
