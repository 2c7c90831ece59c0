"""What the machine lends this process."""

import os


def usable_cores() -> int:
    """As many as this process may run on, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
