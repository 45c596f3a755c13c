"""``dcbench evaluate``: score a condensed set made anywhere."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcbench.cli import options
from dcbench.cli.carry_out import absent_datasets, carry_out
from dcbench.cli.output import json_option
from dcbench.utils.wording import counted

if TYPE_CHECKING:
    from dcbench.formats.foreign import ForeignFile
    from dcbench.run.session import Execution


def _split(_: Any, __: Any, text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dataset", "-d", required=True, metavar="NAME", help="Data set to test on.")
@options.eval_network_option
@options.evals_option
@click.option("--method", metavar="NAME", help="Who made the sets: their row's name.  [imported (file=…)]")
@click.option("--matched-on", metavar="NETWORK", help="The network they were matched on, if any.")
@click.option("--normalised", is_flag=True, help="Images are normalised as the data set is.")
@click.option("--mean", callback=_split, metavar="N,N,N", help="Mean they were normalised by, if another one.")
@click.option("--std", callback=_split, metavar="N,N,N", help="The deviation beside that mean, of each channel.")
@click.option("--raw", is_flag=True, help="Images are pixels: 0 to 1, or uint8.")
@click.option("--grey", is_flag=True, help="Make images in colour grey, for a grey data set.")
@click.option("--zca", is_flag=True, help="Images are pixels of 0 to 1, ZCA-whitened; so is the test set then.")
@click.option("--lr", type=float, help="Learning rate learned with the sets.  [the file's or the protocol's]")
@click.option("--temperature", type=float, help="Labels are logits: train on their softmax at this one.  [1]")
@click.option("--factor", type=int, help="An image is a grid of so many by so many, each enlarged for training.")
@click.option("--labels", metavar="FILE|in-order", help="The labels of images alone; in-order: sorted by class.")
@click.option(
    "--labels-are",
    type=click.Choice(["logits", "classes"]),
    help="Rows of numbers are logits, or stand for the class of their largest.",
)
@options.protocol_option
@options.measure_option
@click.option("--budget", default="full", metavar="NAME", show_default=True, help="full or quick.")
@options.first_seed_option
@options.execution_options
@json_option
def evaluate(
    files: tuple[Path, ...],
    dataset: str,
    dry_run: bool,
    as_json: bool,
    execution: Execution,
    **words: Any,
) -> None:
    """Train fresh networks on condensed sets made anywhere, and test them.

    FILE is a set of dcbench's (.safetensors), which joins the records of its run; or one made elsewhere: the
    .pt files of the authors of gradient matching, images and labels as .pt, .npz or .safetensors (images_best.pt
    finds labels_best.pt and lr_best.pt), or a folder with a folder of images per class; README.md has a table
    of all forms. Nothing in a file is run. Soft labels are recorded as such and ranked apart.

    Networks are trained by the protocol, at the rate that was learned with a set where there is one. The
    protocol dc has no siamese augmentation; sets made for that score lower under dc than their papers say.

    \b
    Examples:
      dcbench evaluate res_DC_MNIST_ConvNet_1ipc.pt -d mnist --matched-on convnet
      dcbench evaluate images_best.pt -d cifar10 --zca --lr 0.02 --method mtt_authors --protocol dsa
      dcbench evaluate data.pt -d cifar10 --raw --factor 2 --method idc_authors --protocol dsa
      dcbench evaluate results/sets/*.safetensors -d digits --eval-network resnet18
    """
    from dcbench.run.cells import Plan
    from dcbench.run.imported_sets import make_claim, outline_imports, plan_imports
    from dcbench.run.session import new_request

    claim = make_claim(**{name: words.pop(name) for name in signature(make_claim).parameters})
    plugins = options.load_plugins()
    request = new_request(plugins, datasets=(dataset,), device=execution.device, **words)
    if dry_run and absent_datasets([dataset], plugins, request.data_root):
        outlines = outline_imports(files, claim, request, plugins)
        nothing = Plan((), request.protocol, request.budget, request.device)
        carry_out([nothing], plugins, execution, dry_run=True, as_json=as_json, outlines=outlines)
        return
    plan, foreign = plan_imports(files, claim, request, plugins)
    if not as_json:
        for file in foreign:
            _show_file(file, claim.brings.get("lr"))
    carry_out([plan], plugins, execution, dry_run=dry_run, as_json=as_json)


def _show_file(file: ForeignFile, lr: float | None) -> None:
    """Say what a foreign file has, and which accuracies it states."""
    first, count = file.sets[0], len(file.sets)
    shape = "x".join(map(str, first.images.shape))
    taken = "" if first.certain or not first.pixels else f"; files of this form are taken as {first.pixels}"
    click.echo(f"{file.path}: {counted(count, 'set')}, the first of {shape}{taken}")
    if first.lr is not None:
        instead = "" if lr is None else f"; --lr {lr:g} is used instead"
        click.echo(f"  learning rate that was learned with it: {first.lr:g}{instead}")
    if file.stated:
        means = (f"{name} {100 * sum(each) / len(each):.2f} (n={len(each)})" for name, each in file.stated.items())
        click.echo(f"  accuracies that the file states, in %: {', '.join(means)}")
