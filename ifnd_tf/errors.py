"""The one exception that means "the input is wrong", as opposed to a bug."""


class UserError(ValueError):
    """Something the user can mend; entry points print it as one line, without a traceback.

    The message says what was expected, what was received and what to do, on one line.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))
