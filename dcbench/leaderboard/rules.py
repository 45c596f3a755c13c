"""The rules of a leaderboard: what a row needs, and which methods the others are measured against."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from dcbench.core.spec import ACCURACY
from dcbench.utils.text_files import read_toml

RULES = "rules.toml"


class Augmentations(BaseModel):
    """Protocols of hard labels, with and without augmentation, from which DD-Ranking's scores are worked out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    augmented: str
    plain: str


class SearchRules(BaseModel):
    """The tables of an architecture search, whose rows need no networks of their own.

    Attributes:
        method, truth: by which row networks rank in truth: of this method under this protocol.
        protocol: of the rows whose ranking is compared with that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    truth: str
    protocol: str


class Rules(BaseModel):
    """What stands in a leaderboard's ``rules.toml``.

    Attributes:
        floor, ceiling: methods that stand in every table, measured or not. Each row says which share of the gap
            between them it closes.
        soft_floor: random images with soft labels, which stand in every table of soft labels, too.
        taught_floor: random images, which stand in every table of networks that a teacher taught, too.
        sets, evals: condensed sets, and networks per set and architecture, that a row needs to be ranked; of a
            method that ignores the seed there is but one set.
        networks: evaluation networks that a row needs, and over which rows are ranked; none for those that all
            rows of a table have.
        datasets: other networks for some data sets.
        measures: other networks for some measures, by their names without options.
        references: submissions whose rows may be floor or ceiling; none for all of them.
        dd_ranking: the protocols of DD-Ranking's scores; none for tables without them.
        search: of architecture searches; none for tables without rank correlations.
        readmes: Markdown files, relative to the folder, whose marked tables are kept up to date.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: str = ""
    ceiling: str = ""
    soft_floor: str = "random_soft"
    taught_floor: str = "random"
    sets: int = Field(1, ge=1)
    evals: int = Field(1, ge=1)
    networks: tuple[str, ...] = ()
    datasets: dict[str, tuple[str, ...]] = {}
    measures: dict[str, tuple[str, ...]] = {}
    references: tuple[str, ...] = ()
    dd_ranking: Augmentations | None = None
    search: SearchRules | None = None
    readmes: tuple[str, ...] = ()

    def networks_for(self, dataset: str, protocol: str, measure: str = ACCURACY) -> tuple[str, ...]:
        """Return the networks that a row needs on a data set; none for those that all rows have."""
        if self.search and protocol in (self.search.truth, self.search.protocol):
            return ()
        own = self.datasets.get(dataset, self.networks)
        return self.measures.get(measure.partition(":")[0], own)


def read_rules(folder: Path) -> Rules:
    """Read the rules of a leaderboard; a folder without any has none but the defaults.

    Raises:
        DcbenchError: naming the file, when it is not TOML or says something else than `Rules`.
    """
    path = folder / RULES
    return read_toml(path, Rules) if path.exists() else Rules()
