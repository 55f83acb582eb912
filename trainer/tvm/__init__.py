"""Schedules by hand and searched for, compiled by Apache TVM: this CPU, a GPU, the Cortex-M4; a leaf that only its
command imports."""
