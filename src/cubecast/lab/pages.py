"""Pages of the documentation: one for each experiment with a result, and an index."""

from collections.abc import Sequence
from pathlib import Path

from cubecast.errors import LabError
from cubecast.lab.experiment import Claim, ExperimentResult
from cubecast.lab.experiments import EXPERIMENTS
from cubecast.lab.plots import plot
from cubecast.lab.report import cell, save, verdict

ROWS_MAX = 40
"""Maximum number of rows on a page; the JSON file beside it has all."""


def write_pages(results: Sequence[ExperimentResult], folder: Path) -> list[Path]:
    """Writes NAME.md, NAME.png and NAME.json for each result, and README.md as the index; returns the pages.

    Raises:
        LabError: the folder cannot be written.
    """
    written = []
    for result in results:
        plot(result, folder)
        save(result, folder)
        (folder / f"{result.experiment}.parquet").unlink(missing_ok=True)
        written.append(_write(folder / f"{result.experiment}.md", _page(result)))
    return [*written, _write(folder / "README.md", _index(results))]


def _write(path: Path, text: str) -> Path:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}; choose another folder with --output") from error
    return path


def _page(result: ExperimentResult) -> str:
    experiment = EXPERIMENTS[result.experiment]
    values = result.parameters.as_json(result.options)
    parameters = ", ".join(f"{name} {cell(value)}" for name, value in sorted(values.items()) if value is not None)
    return "\n".join(
        [
            f"# {experiment.title}",
            "",
            f"Source: {experiment.source}.",
            "",
            f"![{experiment.title}]({result.experiment}.png)",
            "",
            experiment.reading,
            "",
            "## Claims",
            "",
            "| claim | published | measured | holds | why |",
            "|---|---|---|---|---|",
            *(_claim_line(claim) for claim in result.claims),
            "",
            "## Rows",
            "",
            *_rows(result),
            "",
            f"Parameters: {parameters}. Version {result.version}. Made by `cubecast lab run {result.experiment}` and",
            f"`cubecast lab pages`; all rows are in [{result.experiment}.json]({result.experiment}.json).",
            "",
        ]
    )


def _claim_line(claim: Claim) -> str:
    cells = (claim.sentence, claim.published, claim.measured, verdict(claim.holds), claim.why)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rows(result: ExperimentResult) -> list[str]:
    kind = result.rows[0].get("kind")
    rows = [row for row in result.rows if row.get("kind") == kind]
    columns = [c for c in rows[0] if c != "kind" and not (c.startswith("rdp_") and c[4:].isdecimal())]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows[:ROWS_MAX]]
    if len(result.rows) > min(len(rows), ROWS_MAX):
        lines += ["", f"{min(len(rows), ROWS_MAX)} of {len(result.rows)} rows."]
    return lines


def _index(results: Sequence[ExperimentResult]) -> str:
    lines = ["# The lab's experiments", "", "| experiment | what | claims that hold |", "|---|---|---|"]
    for result in results:
        judged = [claim for claim in result.claims if claim.holds is not None]
        lines.append(
            f"| [{result.experiment}]({result.experiment}.md) | {EXPERIMENTS[result.experiment].title} | "
            f"{sum(bool(c.holds) for c in judged)} of {len(judged)} |"
        )
    lines += ["", "Made by `make lab`: `cubecast lab run all`, then `cubecast lab pages --output docs/lab`.", ""]
    return "\n".join(lines)
