"""The tree of errors and the exit codes it ends with."""

import seesr_cli.errors as errors
from seesr_cli.errors import SeesrError


def tree(root: type[SeesrError]) -> list[type[SeesrError]]:
    found = [error for child in root.__subclasses__() for error in tree(child)]
    return [root, *(error for error in found if error.__module__ == errors.__name__)]


def test_the_drawing_shows_every_error() -> None:
    drawing = errors.__doc__ or ""
    assert all(error.__name__ in drawing for error in tree(SeesrError))


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {error.__name__: error.exit_code for error in tree(SeesrError)}
    assert codes["UsageError"] == 2
    assert codes["ResourcesError"] == 4
    assert codes["WeightsMissing"] == codes["WeightsInvalid"] == codes["WeightsError"] == 3
    assert codes["PictureUnreadable"] == codes["OutputUnwritable"] == codes["PictureError"] == 1
