"""Mutation testing of the overlay and the engine: which small changes of the code does no test notice?

A sample of the mutants of Cosmic Ray's operators is drawn by seed, one per place in the code. Each is made in a copy of
the tree, and the tests of its package are run on it, up to the first failure: first without the slow tests and with few
examples of each law, then, if none of them failed, the slow tests and the laws with more examples, for a limited time. A
mutant that both have not failed on counts as a survivor; the second run is left out for one that is listed as equivalent.

Results are appended to a JSON lines file as they come, so a run that was stopped continues where it ended. Parts of a
sample, or of its packages, may run one after another; the sample is drawn from all packages, so their results add up:

    python trials/mutants.py --sample 300 --seed 7 --jobs 2 --part 1/6
    python trials/mutants.py --sample 300 --seed 7 --jobs 2 --package src/cubecast/overlay

Results belong to the text of the mutated file. After tests were added, --again runs the survivors once more.

Mutants that change nothing that a caller can see are listed in equivalent_mutants.toml with the reason.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import mutant_profile
from mutant_sample import Mutant, draw, mutated

T = TypeVar("T")
R = TypeVar("R")
ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
COPIED = ("src", "tests", "docs", "pyproject.toml", "README.md", "LICENSE", "requirements.lock")
TESTS = {
    "src/cubecast/overlay": ("tests/overlay",),
    "src/cubecast/engine/protocol": ("tests/engine/protocol", "tests/engine/host", "tests/engine/directory"),
    "src/cubecast/engine/directory": ("tests/engine/directory",),
    "src/cubecast/engine/host": ("tests/engine/host",),
}
"""The folders of tests that are run for the mutants of a package."""
TOGETHER = tuple(f"tests/engine/test_{name}.py" for name in ("rest", "admission", "deaths"))
"""Tests of both engines together, which are slow: run for the mutants of an engine that its own tests do not fail on."""
PYTEST = (
    *("-x", "-q", "-p", "no:randomly", "-n", "0", "-m", "not system", "-k", "not compiled", "-p", "mutant_profile"),
    *("-W", "ignore::SyntaxWarning", "--timeout-method", "thread"),
)
"""Options of pytest for every mutant.

Tests of the compiled form of a kernel are left out: its plain form is tested, and compiling takes seconds. A mutant that
only makes the compiler warn, such as `0 is not n`, is not killed by the warning: a test has to fail. A test that
exceeds pytest's own limit ends the process: Hypothesis would catch an exception and run the same example again.
"""
PATIENCE, LIMIT_S_MIN = 4.0, 30.0
"""A mutant may take this many times as long as the tests take without it, and at least this long, s."""
PASSED, FAILED, STOPPED, EMPTY = 0, 1, 2, 5
"""Exit codes of pytest; STOPPED is also that of a module that cannot be imported, EMPTY that of a run without tests."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one mutant: killed, survived or timeout, and after how many seconds; or a baseline without any."""

    key: str
    package: str
    place: str
    outcome: str
    seconds: float
    diff: str


def main() -> None:
    """Runs what is left of the sample, and prints the report."""
    options = _options()
    part, parts = options.part
    sample = draw(ROOT, list(TESTS), options.sample, options.seed)
    mine = [m for index, m in enumerate(sample) if index % parts == part - 1 and m.package in options.package]
    known = _read(options.results)
    if options.again:
        known = {key: result for key, result in known.items() if result.outcome != "survived"}
    missing = [mutant for mutant in mine if mutant.key not in known]
    print(f"{len(sample)} mutants, {len(mine)} of them in this run, {len(missing)} left to run", flush=True)
    if missing:
        packages = {mutant.package: _baseline(mutant.package, options.examples) for mutant in missing}
        with _copies(options.jobs) as copies:
            untimed = [package for package, key in packages.items() if key not in known]
            for result in _each(partial(_without_mutant, examples=options.examples), untimed, copies):
                known[result.key] = result
                _append(options.results, result)
            limits_s = {p: max(LIMIT_S_MIN, PATIENCE * known[key].seconds) for p, key in packages.items()}
            attempt = partial(
                _try,
                limits_s=limits_s,
                examples=options.examples,
                more=options.more_examples,
                more_s=options.more_seconds,
            )
            for result in _each(attempt, missing, copies):
                _append(options.results, result)
        known = _read(options.results)
    _report([known[mutant.key] for mutant in mine if mutant.key in known], len(mine))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, metavar="N", help="mutants to draw (300)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="of the sample (7)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants tested at the same time (2)")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="run the Ith of N parts only (1/1)")
    parser.add_argument(
        "--package", action="append", choices=list(TESTS), help="run the mutants of this package only; may be repeated"
    )
    parser.add_argument("--examples", type=int, default=5, metavar="N", help="most examples of one law (5)")
    parser.add_argument(
        "--more-examples", type=int, default=50, metavar="N", help="the same, for mutants that pass with fewer (50)"
    )
    parser.add_argument(
        "--more-seconds", type=float, default=300.0, metavar="S", help="time for those, after which it survives (300)"
    )
    parser.add_argument("--again", action="store_true", help="run the survivors of the results once more")
    parser.add_argument(
        "--results", type=Path, default=Path("lab-results/mutants.jsonl"), metavar="FILE", help="(%(default)s)"
    )
    options = parser.parse_args()
    options.package = options.package or list(TESTS)
    return options


def _part(text: str) -> tuple[int, int]:
    """`I/N` as two numbers.

    Raises:
        ValueError: it is not of that form, or I is not between 1 and N.
    """
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts):
        raise ValueError(text)
    return int(part), int(parts)


# ---------------------------------------------------------------------- running


@contextmanager
def _copies(count: int) -> Iterator[list[Path]]:
    """Copies of the tree, one for each job: the checkout is never changed."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Path(folder, str(number)) for number in range(count)]
        for copy in copies:
            copy.mkdir()
            for name in COPIED:
                source = ROOT / name
                if source.is_dir():
                    shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                elif source.exists():
                    shutil.copy(source, copy / name)
            shutil.copy(str(mutant_profile.__file__), copy)
        yield copies


def _each(work: Callable[[T, Path], R], items: Iterable[T], copies: Sequence[Path]) -> Iterator[R]:
    """Does the work for every item, as many at a time as there are copies, each on a copy of its own."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def on_free_copy(item: T) -> R:
        copy = free.get()
        try:
            return work(item, copy)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            for done in as_completed([pool.submit(on_free_copy, item) for item in items]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _without_mutant(package: str, copy: Path, examples: int) -> Result:
    """Runs the tests of a package as they are, without the slow ones.

    Raises:
        SystemExit: they fail.
    """
    begun = time.monotonic()
    code, output = _pytest(copy, TESTS[package], examples, limit_s=3600.0, slow=False)
    if code != PASSED:
        raise SystemExit(f"the tests of {package} fail without a mutant:\n{output}")
    return Result(_baseline(package, examples), package, package, "baseline", round(time.monotonic() - begun, 1), "")


def _baseline(package: str, examples: int) -> str:
    """Names the run without a mutant in the results: it changes with the code and the tests."""
    digest = hashlib.sha256()
    for name in ("src", "tests"):
        for path in sorted((ROOT / name).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"baseline:{package}:{examples}:{digest.hexdigest()[:12]}"


def _try(mutant: Mutant, copy: Path, limits_s: dict[str, float], examples: int, more: int, more_s: float) -> Result:
    """Runs the tests on one mutant: all of them, with more examples, if it passes the fast ones and is not listed."""
    file, tests = copy / mutant.path, TESTS[mutant.package]
    before = file.read_text()
    diff = mutant.diff(before)
    begun = time.monotonic()
    try:
        file.write_text(mutated(before, mutant))
        code, output = _pytest(copy, tests, examples, limits_s[mutant.package], slow=False, first=file.stem)
        if code == PASSED and not _is_equivalent(mutant.place, diff):
            print(f"passed the fast tests: {mutant.place}\n{diff}", flush=True)
            engine = TOGETHER if "engine" in mutant.package else ()
            code, output = _pytest(copy, (*tests, *engine), more, more_s, slow=True, first=file.stem)
            code = PASSED if code in (None, EMPTY) else code  # nothing has failed within the time
    finally:
        file.write_text(before)
    if code not in (None, PASSED, FAILED, STOPPED):
        raise RuntimeError(f"pytest ended with {code} on {mutant.place}:\n{output}")
    outcome = "timeout" if code is None else "survived" if code == PASSED else "killed"
    return Result(mutant.key, mutant.package, mutant.place, outcome, round(time.monotonic() - begun, 1), diff)


def _pytest(
    copy: Path, tests: Sequence[str], examples: int, limit_s: float, *, slow: bool, first: str = ""
) -> tuple[int | None, str]:
    """The exit code of pytest and the end of its output; no code if it did not end within the limit."""
    path = os.pathsep.join(filter(None, (str(copy / "src"), str(copy), os.environ.get("PYTHONPATH", ""))))
    env = os.environ | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant of the same size and second would run as the one before
        mutant_profile.EXAMPLES: str(examples),
        mutant_profile.SLOW_TESTS: "yes" if slow else "no",
        mutant_profile.MODULE: first,
    }
    command = [sys.executable, "-m", "pytest", *PYTEST, *tests]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, cwd=copy, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        ) as running,
    ):
        try:
            code: int | None = running.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")[-2000:]


# ---------------------------------------------------------------------- results


def _append(file: Path, result: Result) -> None:
    """Prints a result and adds it to the file."""
    if result.outcome == "baseline":
        print(f"{result.place} without a mutant: {result.seconds:.0f} s", flush=True)
    else:
        print(f"{result.outcome:9}{result.seconds:6.1f} s  {result.place}", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as results:
        results.write(json.dumps(asdict(result)) + "\n")


def _read(file: Path) -> dict[str, Result]:
    if not file.exists():
        return {}
    results = [Result(**json.loads(line)) for line in file.read_text().splitlines()]
    return {result.key: result for result in results}


def _is_equivalent(place: str, diff: str) -> bool:
    """Whether a mutant is listed: by its file, the line it takes out and puts in, and the line above if one is given."""
    file, _, rest = place.partition(":")
    above = (ROOT / file).read_text().splitlines()[int(rest.split()[0]) - 2].strip()
    lines = diff.splitlines()
    out = next((line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")), "")
    new = next((line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")), "")
    return any(
        (each["file"], each["line"], each["mutant"], each.get("above", above)) == (file, out, new, above)
        for each in tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
    )


def _report(results: Sequence[Result], drawn: int) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for result in results:
        outcome = result.outcome
        if outcome == "survived" and _is_equivalent(result.place, result.diff):
            outcome = "equivalent"
        if outcome == "survived":
            survivors.append(result)
        counts[result.package][outcome] += 1
        counts["all"][outcome] += 1
    for result in survivors:
        print(f"\nsurvived: {result.place}\n{result.diff}")
    print(
        f"\n{len(results)} of {drawn} mutants were run; a timeout counts as killed, an equivalent mutant not at all\n"
    )
    columns = ("killed", "timeout", "survived", "equivalent")
    print(f"{'package':32}" + "".join(f"{column:>12}" for column in columns) + f"{'share':>8}")
    for package in (*sorted(set(counts) - {"all"}), "all"):
        count = counts[package]
        caught, counted = count["killed"] + count["timeout"], sum(count.values()) - count["equivalent"]
        share = f"{caught / counted:.0%}" if counted else "-"
        print(f"{package:32}" + "".join(f"{count[column]:>12}" for column in columns) + f"{share:>8}")


if __name__ == "__main__":
    main()
