"""Settings of a retraining; without torch, for command lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aopsam._options import Count, check
from aopsam.training.recipes import PredictorRecipe
from stages.config.command_line import ModelArguments, Uri
from stages.retrain.gate import Gate
from stages.storage.location import redact


class AnnotatedSource(NamedTuple):
    """Annotated photos to train on.

    Attributes:
        uri: as `stages.annotations.shards.list_shards` takes it.
        weight: of each photo, where one that the teacher labelled weighs 1.
        sparse: whether photos have objects that are not annotated.
    """

    uri: str
    weight: float = 1.0
    sparse: bool = False

    @classmethod
    def parse(cls, text: str, sparse: bool) -> AnnotatedSource:
        """Parse `URI` or `URI=WEIGHT`; what follows the last `=` is part of the URI unless it is a number.

        Raises:
            ValueError: a weight that is not above 0 and up to 100.
        """
        uri, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            return cls(text, sparse=sparse)
        if not uri or not 0 < weight <= 100:
            raise ValueError(
                f"{redact(text)}: a weight lies above 0 and up to 100; write URI=1 if this is the URI's end"
            )
        return cls(uri, weight, sparse)


@dataclass(frozen=True, kw_only=True)
class Settings(ModelArguments):
    """Settings of a retraining: all that decides what comes out besides the photos and the parent.

    Raises:
        ValueError: a value of the wrong type or out of its limits.
    """

    annotated: tuple[Uri, ...] = ()
    """URI[=WEIGHT] of photos annotated all over, such as corrections: tars, folders, globs, instance files."""
    sparse: tuple[Uri, ...] = ()
    """URI[=WEIGHT] of photos with objects that are not annotated, such as COCO's."""
    teacher_prompts: str = "grid-32"
    """Strategy that labels photos without annotations."""
    keep: Count = 1000
    """New photos to label, at most."""
    at_least: Count = 10
    """New photos and annotations without which there is nothing to do."""
    mirror: bool = False
    """Train on mirrored photos, too."""
    workers: Count = 1
    """Training processes."""
    gate: Gate = field(default_factory=Gate)
    """When the new version is taken into use."""
    recipe: PredictorRecipe = field(default_factory=PredictorRecipe)
    """Hyper-parameters."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def sources(self) -> list[AnnotatedSource]:
        """Sources of annotated photos, in an order that their numbers follow.

        Raises:
            ValueError: a weight out of its limits.
        """
        given = [(text, False) for text in self.annotated] + [(text, True) for text in self.sparse]
        return [AnnotatedSource.parse(text, sparse) for text, sparse in given]
