"""Measure what a cluster costs besides the pictures: python benchmarks/cluster.py [SECONDS [PICTURES]]

Pictures are stubs that take SECONDS each, so that one machine can stand for several: what is left is the way of the
messages, the queue and the journal. Prints pictures a minute with 1, 2 and 4 actors and how near that is to the most
there can be; then what each of 1,000 pictures costs that take no time.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seesr_cli.catalogue import MINIATURE
from seesr_cli.records.lines import Key, Line, as_text
from seesr_cli.report.screen import Report
from seesr_cli.run import cluster, node
from seesr_cli.run.inputs import InputFile
from seesr_cli.run.outcome import Outcome
from seesr_cli.run.outputs import Job
from seesr_cli.run.request import Request


def stub(seconds: float) -> type[node.Restorer]:
    """Return what stands for a restorer on a node: every picture takes it so many seconds."""

    class Stub(node.Restorer):
        def about(self, *_: Any) -> node.About:
            return node.About(node.versions(), "", "", True)

        def work(self, *_: Any) -> Iterator[Any]:
            while True:
                yield ("next",)
                if (given := self.recv()) is None:
                    return
                job = given[0]
                yield ("started", job.source.path, job.target)
                time.sleep(seconds)
                yield ("line", job.folder, as_text(job.target.name, Line(Key("1", "2", "3"), "4", 5, 6)))
                self.recv()
                yield ("outcome", Outcome(job.source.path, "done", seconds, job.target))

    return Stub


def measured(actors: int, pictures: int, seconds: float) -> float:
    """Return the seconds from the first picture's end to the last one's, for as many as were begun after it."""
    vars(cluster)["Restorer"] = stub(seconds)
    ends = []
    with tempfile.TemporaryDirectory() as folder, Report(pictures, quiet=True) as report:
        names = [Path(f"{number}.png") for number in range(pictures)]
        jobs = [Job(InputFile(Path(folder, name), name), Path(folder, "out", name), "png") for name in names]
        request = Request(MINIATURE, MINIATURE.defaults)
        for outcome in cluster.run(jobs, request, cluster.Asked("", actors, "cpu"), None, lambda: "", report):
            assert outcome.state == "done"
            ends.append(time.monotonic())
    ends = ends[actors * 2 - 1 :]  # all actors are at work by then
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def main(seconds: float, pictures: int) -> None:
    """Print the table."""
    print("actors  pictures a minute  of the most")
    for actors in (1, 2, 4):
        each = measured(actors, actors * pictures, seconds)
        print(f"{actors:6}  {60 / each:17.1f}  {seconds / actors / each:11.1%}", flush=True)
    print(f"{1000 * measured(1, 1000, 0.0):.2f} ms for each of 1,000 pictures that take no time")


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 5.0, int(sys.argv[2]) if sys.argv[2:] else 12)
