"""What the machine lends: files written whole, locks, processes, cores, progress, precision."""
