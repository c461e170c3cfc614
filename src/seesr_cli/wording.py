"""Put numbers and names into words: bytes, durations, counts, and text that is safe to print on a terminal."""

from pathlib import Path


def bytes_in_words(count: float) -> str:
    """Return a number of bytes in decimal units, as people read it: "848 MB", "3.21 GB"."""
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.3g} {unit}"


def duration(seconds: float, tenths: bool = True) -> str:
    """Return a time as people read it: "2.4 s", "35 s", "12 min", "3 h 5 min".

    tenths: whether times below ten seconds have them; what is still running has none.
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if tenths and seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str | Path) -> str:
    """Return `text` on one line, with escapes for all that a terminal would obey or cannot encode.

    Names of files may hold line breaks, escape sequences, and bytes that are no text (surrogates).
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )


def shortened(name: str, most: int) -> str:
    """Return `name` in at most `most` characters: its middle is left out, since the end often tells pictures apart."""
    if len(name) <= most:
        return name
    half = (most - 3) // 2
    return f"{name[:half]}...{name[len(name) - (most - 3 - half) :]}"
