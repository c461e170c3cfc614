"""Write a run's page: one HTML file with the loss, the validation and strips of pictures."""

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

from ..files import replacing
from .recipe import Recipe

FILE = "index.html"
POINTS = 400
"""Of the curve, at most: each is the mean of the steps around it."""

STRIPS = 5
WIDTH, HEIGHT, EDGE = 720, 240, 48

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
svg{width:100%;height:auto}table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}
img{max-width:100%;image-rendering:auto}figure{margin:1.5rem 0}.fine{color:#666;font-size:.9rem}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.fine{color:#999}}"""


def write(run: Path, recipe: Recipe) -> Path:
    """Write the page of a run from its log and its strips, and return its path."""
    entries = _entries(run / "log.jsonl")
    losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    looks = [entry for entry in entries if "loss" not in entry]
    strips = sorted((run / "validation").glob("step-*.png"))[-STRIPS:]
    body = [
        f"<h1>seesr train {recipe.stage}: {escape(run.name)}</h1>",
        f"<p>Step {losses[-1][0] if losses else 0:,} of {recipe.steps:,}, {recipe.batch} pictures a step.</p>",
        "<h2>Loss</h2>",
        _curve(losses),
    ]
    if looks:
        body += ["<h2>Pictures kept aside</h2>", _table(looks[-12:])]
    for strip in reversed(strips):
        data = base64.b64encode(strip.read_bytes()).decode()
        step = int(strip.stem.partition("-")[2])
        body.append(
            f'<figure><img alt="Pictures after step {step}" src="data:image/png;base64,{data}">'
            f"<figcaption>Step {step:,}: enlarged (bicubic), restored, clean.</figcaption></figure>"
        )
    rows = "".join(f"<tr><th>{escape(key)}<td>{escape(str(value))}" for key, value in recipe.as_json().items())
    body.append(f"<h2>Recipe</h2><table>{rows}</table>")
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(run.name)}</title><style>{STYLE}</style>{''.join(body)}</html>\n"
    )
    path = run / FILE
    with replacing(path, overwrite=True) as file:
        file.write(page.encode())
    return path


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return the log's entries, the last one of each step and kind: a run that went on wrote some steps twice."""
    if not path.is_file():
        return []
    kept: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the end of a line that was being written when the run was killed
        kept[entry["step"], "loss" in entry] = entry
    return [kept[key] for key in sorted(kept)]


def _curve(losses: list[tuple[int, float]]) -> str:
    """Return the loss as an SVG, smoothed to `POINTS` points."""
    if not losses:
        return '<p class="fine">No step yet.</p>'
    size = max(1, -(-len(losses) // POINTS))
    groups = [losses[place : place + size] for place in range(0, len(losses), size)]
    points = [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
    least, most = min(loss for _, loss in points), max(loss for _, loss in points)
    first, last = points[0][0], points[-1][0]
    over, along = (most - least) or 1.0, (last - first) or 1

    def place(step: int, loss: float) -> str:
        x = EDGE + (WIDTH - EDGE - 8) * (step - first) / along
        y = 8 + (HEIGHT - 32) * (most - loss) / over
        return f"{x:.1f},{y:.1f}"

    line = " ".join(place(*point) for point in points)
    text = 'font-size="11" fill="currentColor"'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss from {points[0][1]:.4g} to '
        f'{points[-1][1]:.4g}"><polyline points="{line}" fill="none" stroke="#36c" stroke-width="1.5"/>'
        f'<text x="0" y="14" {text}>{most:.3g}</text><text x="0" y="{HEIGHT - 24}" {text}>{least:.3g}</text>'
        f'<text x="{EDGE}" y="{HEIGHT - 6}" {text}>step {first:,}</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 6}" text-anchor="end" {text}>{last:,}</text></svg>'
        + (f'<p class="fine">Each point is the mean of {size} steps.</p>' if size > 1 else "")
    )


def _table(looks: list[dict[str, Any]]) -> str:
    names = [name for name in looks[-1] if name != "step"]
    head = "".join(f"<th>{escape(name.replace('_', ' '))}" for name in ["step", *names])
    rows = "".join(
        f"<tr><td>{look['step']:,}" + "".join(f"<td>{look.get(name, 0):.4g}" for name in names) for look in looks
    )
    return f"<table><tr>{head}{rows}</table>"
