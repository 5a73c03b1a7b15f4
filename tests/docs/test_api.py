"""The signatures that docs/api.md promises are the signatures that there are."""

from __future__ import annotations

import inspect
import re

from segment_anything import SamAutomaticMaskGenerator

import aopsam
from aopsam.prompting import STRATEGIES
from aopsam.sam.registry import MODELS
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_generator_has_sams_parameters_in_sams_order() -> None:
    theirs = list(inspect.signature(SamAutomaticMaskGenerator).parameters)
    ours = inspect.signature(aopsam.AutoMaskGenerator).parameters
    assert list(ours)[: len(theirs)] == theirs
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(ours)[len(theirs) :])


def test_the_page_writes_the_signature_as_it_is() -> None:
    written = re.search(r"AutoMaskGenerator\((model,.*?)\)`", PAGE, re.DOTALL).group(1)
    names = [part.split("=")[0].strip() for part in written.split(",") if part.strip() != "*"]
    assert names == list(inspect.signature(aopsam.AutoMaskGenerator).parameters)


def test_models_and_strategies_of_the_page_exist() -> None:
    models = re.search(r"Names: (.*?) \(downloaded", PAGE, re.DOTALL)
    strategies = re.search(r"- Strategies: (.*?)\n- ", PAGE, re.DOTALL)
    assert models is not None
    assert strategies is not None
    assert set(re.findall(r"`([^`]+)`", models.group(1))) <= set(MODELS)
    named = re.sub(r"\(options?.*?\)", "", strategies.group(1), flags=re.DOTALL)
    assert set(re.findall(r"`([^`]+)`", named)) <= set(STRATEGIES)


def test_public_names() -> None:
    assert aopsam.__all__ == ["AutoMaskGenerator", "load_sam"]
