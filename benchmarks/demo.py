"""`vestry demo`, the first minute: how long until the first round, how long in all, and how much memory.

Runs the command as a user would, in an empty folder, and measures seconds from the start of the command to
the line of the first finished round, seconds to its end, and the highest sum of memory (PSS) in all its
processes, the fork server and the workers included, sampled every 50 ms. Targets: 5 s, 20 s, 900 MiB. Each
repetition runs the command twice, once for the times and once for the memory, because taking samples takes
time itself; the figures are the medians.

The machine is set up (packages installed, files read before): the first run of all is not counted. `make
demo` on such a machine runs the same command.

Run from the root of the repository:  python -m benchmarks.demo [--json] [--repetitions N]
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.figures import Report, Sheet, at_most, main
from benchmarks.processes import Watched, watch

__all__ = ["demo_command", "measure", "run_demo"]

FIRST_SECONDS, TOTAL_SECONDS, PEAK_MIB = 5.0, 20.0, 900.0
FIRST_ROUND = r"^round +1/"
MIB = 1024 * 1024


def demo_command() -> list[str]:
    """The console script beside this interpreter, or its module where it is not installed."""
    script = Path(sys.executable).parent / "vestry"
    program = [str(script)] if script.exists() else [sys.executable, "-m", "vestry_simulations.cli"]
    return [*program, "demo"]


def run_demo(*, memory: bool) -> Watched:
    """Run it once.

    Args:
        memory: take samples of its memory.

    Raises:
        RuntimeError: it failed, or showed no finished round; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        watched = watch(demo_command(), Path(folder), sample_seconds=0.05 if memory else None)
    if watched.status != 0 or watched.first(FIRST_ROUND) is None:
        printed = "\n".join(line for _, line in watched.lines)
        raise RuntimeError(f"vestry demo ended with status {watched.status}:\n{printed}")
    return watched


def measure(options: argparse.Namespace) -> Report:
    """Warm up, then repeat."""
    run_demo(memory=False)
    runs = [(run_demo(memory=False), run_demo(memory=True)) for _ in range(options.repetitions)]
    first = [timed.first(FIRST_ROUND) or 0.0 for timed, _ in runs]
    total = [timed.seconds for timed, _ in runs]
    peak = [sampled.peak_pss / MIB for _, sampled in runs]
    rows = tuple(
        (str(number), f"{a:.2f}", f"{b:.2f}", f"{c:.0f}", str(runs[number - 1][1].peak_processes))
        for number, (a, b, c) in enumerate(zip(first, total, peak, strict=True), start=1)
    )
    columns = ("repetition", "first round, s", "end, s", "peak PSS, MiB", "processes at the peak")
    machine = (
        f"Machine: {len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; load average at the end {os.getloadavg()[0]:.1f}."
    )
    return Report(
        name="demo",
        figures=(
            at_most("seconds to the first finished round, median", median(first), FIRST_SECONDS),
            at_most("seconds to the end, median", median(total), TOTAL_SECONDS),
            at_most("peak PSS in all processes, MiB, median", median(peak), PEAK_MIB),
        ),
        sheets=(Sheet("vestry demo", columns, rows),),
        notes=(machine,),
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repetitions", type=int, default=3, help="how often; the median counts")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
