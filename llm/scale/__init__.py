"""More than one memory, more than one machine: what it costs, and how the work is divided."""
