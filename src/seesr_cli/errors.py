"""The errors that users meet, each with its exit code.

    SeesrError               expected: shown as one sentence, no traceback
    ├── UsageError           2  a setting or an argument that cannot work
    ├── WeightsError         3
    │   ├── WeightsMissing      a file of the model is not there
    │   └── WeightsInvalid      a file is there and is not what it should be
    ├── ResourcesError       4  memory or disk do not suffice, for what is planned or to go on
    └── PictureError         1  one picture failed; a batch goes on
        ├── PictureUnreadable   not a picture, damaged, or not of a kind we read
        └── OutputUnwritable    the restored picture could not be put where it belongs

Each is raised where its cause is known, and its message says what, where, and what to do next.
"""

INTERRUPTED = 130
"""The exit code after SIGINT or SIGTERM."""


class SeesrError(Exception):
    """An expected failure: its message is one sentence for the person at the terminal.

    remedies: what to do next, a line each, where there are several ways.
    in_full: whether the person at the terminal asked for tracebacks.
    """

    exit_code = 1
    in_full = False

    def __init__(self, message: str, remedies: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.remedies = remedies


class UsageError(SeesrError):
    """A setting or an argument is wrong for every picture."""

    exit_code = 2


class WeightsError(SeesrError):
    """The model's files are not usable."""

    exit_code = 3


class WeightsMissing(WeightsError):
    """A file of the model is not there."""


class WeightsInvalid(WeightsError):
    """A file of the model is there, but damaged or another one."""


class ResourcesError(SeesrError):
    """Memory or disk do not suffice: for the plan, or for any further picture."""

    exit_code = 4


class PictureError(SeesrError):
    """One picture failed; the others can go on."""


class PictureUnreadable(PictureError):
    """The input is not a picture, is damaged, or is of a kind that is not read."""


class OutputUnwritable(PictureError):
    """The restored picture could not be put where it belongs."""
