"""Where a place in one picture is in another: turned upright, cut, enlarged."""

from typing import NamedTuple

Size = tuple[int, int]
"""(height, width), in pixels."""

Box = tuple[float, float, float, float]
"""(top, left, bottom, right), in pixels."""


class Move(NamedTuple):
    """The way from one picture to another: turn it, cut a part out, enlarge that part.

    before: size of the first picture, as it is stored. orientation: EXIF's, 1 to 8, by which it is turned. part: the
    part of the turned picture that is kept, in its pixels. after: size of the second picture.
    """

    before: Size
    orientation: int
    part: Box
    after: Size

    @property
    def turned(self) -> Size:
        """The first picture's size once it is upright."""
        return self.before[::-1] if self.orientation > 4 else self.before

    @property
    def plain(self) -> bool:
        """Whether fractions of the sides stay as they are: nothing is turned, nothing cut."""
        return self.orientation == 1 and self.part == (0, 0, *self.before)

    @property
    def scale(self) -> tuple[float, float]:
        """How many pixels become of one, down and across the turned picture."""
        top, left, bottom, right = self.part
        return self.after[0] / (bottom - top), self.after[1] / (right - left)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is afterwards; both in fractions of width and height (Exif 2.32, 4.6.4 A)."""
        if self.orientation in (2, 3, 6, 7):
            x, y = (1 - x, y) if self.orientation < 5 else (x, 1 - y)
        if self.orientation in (3, 4, 7, 8):
            x, y = (x, 1 - y) if self.orientation < 5 else (1 - x, y)
        if self.orientation > 4:
            x, y = y, x
        height, width = self.turned
        top, left, bottom, right = self.part
        return (x * width - left) / (right - left), (y * height - top) / (bottom - top)

    def box(self, box: Box) -> Box | None:
        """Return the visible part of a box after the move, in fractions as `point`; None if nothing is left."""
        top, left, bottom, right = box
        (x0, y0), (x1, y1) = self.point(left, top), self.point(right, bottom)
        if self.plain:
            return y0, x0, y1, x1
        (left, right), (top, bottom) = sorted((x0, x1)), sorted((y0, y1))
        top, left, bottom, right = max(top, 0.0), max(left, 0.0), min(bottom, 1.0), min(right, 1.0)
        return (top, left, bottom, right) if top < bottom and left < right else None


def turn(before: Size, orientation: int) -> Move:
    """Return the move that turns a picture upright, and nothing else."""
    after = before[::-1] if orientation > 4 else before
    return Move(before, orientation, (0, 0, *after), after)


def alike(a: Size, b: Size) -> bool:
    """Return whether two sizes are of one shape: then one picture may be the other, enlarged or reduced."""
    return min(*a, *b) > 0 and abs(a[0] * b[1] - a[1] * b[0]) <= max(a[0], a[1], b[0], b[1])


def frame_of(before: Size, height: int | None, width: int | None) -> Size | None:
    """Return the size that places in pixels refer to: the stated one; None where that is of another shape."""
    if not height or not width:
        return before
    return (height, width) if alike((height, width), before) else None


def subject(numbers: list[int], move: Move, stated: Size) -> list[int] | None:
    """Return EXIF's SubjectArea or SubjectLocation after the move: x and y, then a diameter, or width and height.

    stated: the size that the numbers refer to. None where the place is not seen any more.
    """
    if not 2 <= len(numbers) <= 4:
        return None
    height, width = stated
    x, y = move.point(numbers[0] / width, numbers[1] / height)
    if not (0 <= x <= 1 and 0 <= y <= 1):
        return None
    down, across = move.scale[0] * move.before[0] / height, move.scale[1] * move.before[1] / width
    sides = numbers[2:]
    if len(sides) == 2:
        across_, down_ = reversed(sides) if move.orientation > 4 else sides
        sides = [round(across_ * across), round(down_ * down)]
    elif sides:
        sides = [round(sides[0] * (across + down) / 2)]
    return [round(x * move.after[1]), round(y * move.after[0]), *sides]
