"""What a person can mend, told in their words: what, where, and what to do."""


class UserError(ValueError):
    """A mistake in what was asked for or handed in: the commands print it as a sentence and leave with exit code 2."""


class RunStopped(RuntimeError):
    """A run that cannot go on (a full disk, a loss that is no number): a sentence, and exit code 1."""
