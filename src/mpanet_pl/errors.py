"""What a user can mend, told in the user's words: what, where, and what to do."""


class UserError(ValueError):
    """A mistake outside the code: the commands print it as a sentence and leave with exit code 2."""
