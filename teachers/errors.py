"""Errors that are not bugs of ours; each message gives the value, the limit and what to do."""


class AuditError(Exception):
    """Stop the program with one sentence and `exit_code`, without a traceback."""

    exit_code = 70


class UsageError(AuditError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = 2


class RefusedInput(AuditError):
    """An input was opened and refused: a checkpoint, a data set, a record, a teacher's answers."""

    exit_code = 4


class NothingAudited(AuditError):
    """No attack could be run at all."""

    exit_code = 5


class BudgetExceeded(UsageError):
    """A query would exceed the budget; raised before it is sent."""
