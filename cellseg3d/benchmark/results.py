"""Write the tables and the picture of a study from its records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.markdown import CURVES, PICTURE, markdown
from cellseg3d.benchmark.picture import draw_curves, draw_pareto
from cellseg3d.benchmark.record import Record, read_records, write_json
from cellseg3d.benchmark.study import Study
from cellseg3d.benchmark.summary import summarise_study
from cellseg3d.core.atomic import write_text

TABLE = "benchmark.md"
VALUES = "benchmark.json"


def write_results(study: Study, folder: Path) -> dict[str, Any]:
    """Write ``benchmark.md``, ``benchmark.json`` and the pictures into a folder.

    The pictures are ``pareto.png`` and, where records have curves, ``curves.png``.

    Neither volumes nor networks are opened, because the records hold all the numbers.

    Returns
    -------
    dict
        The content of ``benchmark.json``.

    Raises
    ------
    ConfigError
        If there are no records.
    EnvironmentFault
        If matplotlib is missing.
    """
    records = _of_study(read_records(folder), study)
    methods = [method.name for method in study.methods]
    summary = summarise_study(records, methods, study.pairs)
    values = {"study": study.name, "question": study.question, **summary}
    write_json(values, folder / VALUES)
    text = markdown(study.name, study.question, summary)
    write_text(folder / TABLE, text)
    draw_pareto(summary, folder / PICTURE)
    draw_curves(summary, folder / CURVES)
    return values


def _of_study(records: Sequence[Record], study: Study) -> list[Record]:
    """Return the records that belong to the study as it is now, in its order."""
    keys = {job.key: number for number, job in enumerate(study.jobs())}
    mine = [record for record in records if record.key in keys]
    return sorted(mine, key=lambda record: keys[record.key])
