"""`cellseg3d bundle`: list the bundles, write them from configs/, or check them."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List the MONAI bundles that came along; assemble or check them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Configs = Annotated[
    Path | None,
    typer.Option("--configs", help="Folder of the fragments; the checkout's."),
]
Bundles = Annotated[
    Path | None, typer.Option("--bundles", help="Folder of the bundles; beside it.")
]


@app.command(name="list")
def list_bundles(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table here, too.")
    ] = None,
) -> None:
    """List the bundles that `train --bundle NAME` knows."""
    from rich.console import Console
    from rich.table import Table

    from cellseg3d.bundle.compose import read_config
    from cellseg3d.bundle.shipped import shipped_bundles

    rows = []
    for name, folder in shipped_bundles().items():
        metadata = read_config(folder / "configs" / "metadata.json")
        rows.append(
            {
                "name": name,
                "version": metadata["version"],
                "description": metadata["description"],
                "path": str(folder),
            }
        )
    table = Table("name", "version", "description", box=None)
    for row in rows:
        table.add_row(row["name"], row["version"], row["description"])
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@app.command()
def assemble(configs: Configs = None, bundles: Bundles = None) -> None:
    """Write bundles/ anew from configs/."""
    from cellseg3d.bundle.assemble import assemble as write
    from cellseg3d.bundle.shipped import configs_dir

    source = configs or configs_dir()
    for folder in write(source, bundles or source.parent / "bundles"):
        print(folder)


@app.command()
def check(configs: Configs = None, bundles: Bundles = None) -> None:
    """Fail if bundles/ is not what configs/ says."""
    from cellseg3d.bundle.assemble import drift
    from cellseg3d.bundle.shipped import configs_dir
    from cellseg3d.core.errors import ConfigError

    source = configs or configs_dir()
    lines = drift(source, bundles or source.parent / "bundles")
    if lines:
        message = "; ".join(lines) + "; run `cellseg3d bundle assemble`"
        raise ConfigError(message)
    print("bundles are what configs/ says")
