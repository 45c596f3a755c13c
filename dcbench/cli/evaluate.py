"""``dcbench evaluate``: score a condensed set made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from dcbench.cli import options
from dcbench.cli.carry_out import carry_out, refuse_downloads
from dcbench.cli.output import json_option
from dcbench.run import defaults
from dcbench.utils.files import default_data_root

if TYPE_CHECKING:
    from dcbench.formats.foreign import ForeignFile
    from dcbench.run.session import Execution


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dataset", "-d", required=True, metavar="NAME", help="Data set to test on.")
@options.names(
    "--eval-network", "eval_networks", help=f"Evaluation network.  [{', '.join(defaults.EVAL_NETWORKS)}]"
)
@options.number("--evals", help="Networks per set and architecture.  [5, quick 2]")
@click.option("--method", metavar="NAME", help="Who made the sets: their row's name.  [imported (file=…)]")
@click.option("--matched-on", metavar="NETWORK", help="The network they were matched on, if any.")
@click.option("--normalised", is_flag=True, help="Images are normalised as the data set is.")
@click.option("--raw", is_flag=True, help="Images are pixels: 0 to 1, or uint8.")
@click.option("--zca", is_flag=True, help="Images are pixels of 0 to 1, ZCA-whitened; so is the test set then.")
@click.option("--labels", type=click.Path(path_type=Path), help="The labels, where FILE has the images alone.")
@options.protocol_option
@click.option("--budget", default="full", metavar="NAME", show_default=True, help="full or quick.")
@options.first_seed_option
@options.execution_options
@json_option
def evaluate(
    files: tuple[Path, ...],
    dataset: str,
    eval_networks: tuple[str, ...],
    evals: int | None,
    method: str | None,
    matched_on: str | None,
    labels: Path | None,
    protocol: str,
    budget: str,
    seed: int,
    data_root: Path | None,
    dry_run: bool,
    as_json: bool,
    execution: Execution,
    **pixels: bool,
) -> None:
    """Train fresh networks on condensed sets made anywhere, and test them.

    FILE is a set of dcbench's (.safetensors), which joins the records of its run; or one made elsewhere: the
    .pt files of the authors of gradient matching, pairs of images and labels as .pt, .npz or .safetensors
    (images_best.pt finds labels_best.pt), or a folder with a folder of images per class. Nothing in a file is
    run. Soft labels are recorded as such and ranked apart.

    Networks are trained by the protocol: dc has no siamese augmentation and no learned learning rate. Sets that
    were made for these score lower here than their papers say.

    \b
    Examples:
      dcbench evaluate res_DC_MNIST_ConvNet_1ipc.pt -d mnist --matched-on convnet
      dcbench evaluate images_best.pt -d cifar10 --zca --method mtt --eval-network convnet
      dcbench evaluate results/sets/*.safetensors -d digits --eval-network resnet18
    """
    from dcbench.run.imported_sets import Claim, plan_imports
    from dcbench.run.session import new_request
    from dcbench.utils.errors import DcbenchError

    claimed = [name for name, given in pixels.items() if given]
    if len(claimed) > 1:
        raise DcbenchError(f"images are one of --{' and --'.join(claimed)}, not both.")
    plugins, root = options.load_plugins(), data_root or default_data_root()
    if dry_run:
        refuse_downloads([dataset], plugins, root)
    request = new_request(
        plugins,
        datasets=(dataset,),
        eval_networks=eval_networks or defaults.EVAL_NETWORKS,
        protocol=protocol,
        budget=budget,
        evals=evals,
        seed=seed,
        device=execution.device,
        data_root=root,
    )
    claim = Claim(method, matched_on, cast(Any, claimed[0]) if claimed else None, labels)
    plan, foreign = plan_imports(files, claim, request, plugins)
    if not as_json:
        for file in foreign:
            _show_file(file)
    carry_out(plan, plugins, execution, dry_run=dry_run, as_json=as_json)


def _show_file(file: ForeignFile) -> None:
    """Say what a foreign file has, and which accuracies it states."""
    first = file.sets[0]
    shape = "x".join(map(str, first.images.shape))
    taken = "" if first.certain or not first.pixels else f"; files of this form are taken as {first.pixels}"
    click.echo(f"{file.path}: {len(file.sets)} set{'s' * (len(file.sets) != 1)}, the first of {shape}{taken}")
    if file.stated:
        means = (f"{name} {100 * sum(each) / len(each):.2f} (n={len(each)})" for name, each in file.stated.items())
        click.echo(f"  accuracies that the file states, in %: {', '.join(means)}")
