"""``dcbench export``: a condensed set for other people's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcbench.cli.options import data_root_option

if TYPE_CHECKING:
    from dcbench.formats.export import Form


@click.command()
@click.argument("set_file", metavar="SET", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "form", type=click.Choice(["pt", "npz", "folder"]), required=True, help="The form.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write it.  [SET's name, in this folder]")
@data_root_option
def export(set_file: Path, form: Form, out: Path | None, data_root: Path | None) -> None:
    """Write a condensed set of dcbench's in a form that needs no dcbench.

    SET is a file of results/sets. pt and npz have images as networks are trained on them, labels, the mean and
    deviation by which the images were normalised, and what else the set has. folder has a PNG for each image, in
    folders 00000, 00001, … by label, as torchvision's ImageFolder reads them.

    \b
    Examples:
      dcbench export results/sets/digits_ipc1_gradmatch_….safetensors --to pt
      dcbench export results/sets/digits_ipc1_gradmatch_….safetensors --to folder --out my_digits
    """
    from dcbench.formats.export import export_set
    from dcbench.interface import load_set

    kept = load_set(set_file, data_root)
    path = out or Path(set_file.stem + {"pt": ".pt", "npz": ".npz", "folder": ""}[form])
    words, exact = export_set(path, form, kept.set, kept.header)
    click.echo(f"wrote {path}")
    if not exact:
        click.echo("PNG has 256 levels from 0 to 1: values between them are rounded, others clipped.")
    click.echo(f"To score it: dcbench evaluate {path} -d {kept.header['spec']['dataset']} {words}".rstrip())
