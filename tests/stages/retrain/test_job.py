from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stages.config.manifest import write_manifest
from stages.registry.versions import Registry
from stages.retrain.job import name_of_today
from stages.retrain.settings import AnnotatedSource


@pytest.mark.parametrize(
    ("text", "uri", "weight"),
    [
        ("s3://b/fixed.json=3", "s3://b/fixed.json", 3.0),
        ("a=b/x.tar=0.5", "a=b/x.tar", 0.5),
        ("s3://b/day=monday", "s3://b/day=monday", 1.0),
        ("s3://b/day=7=1", "s3://b/day=7", 1.0),
        ("x.tar", "x.tar", 1.0),
    ],
)
def test_a_weight_follows_the_last_equals_sign(text: str, uri: str, weight: float) -> None:
    assert AnnotatedSource.parse(text, sparse=True) == AnnotatedSource(uri, weight, True)


@pytest.mark.parametrize("text", ["s3://b/year=2026", "x=0", "x=-1", "x=nan", "=3"])
def test_a_weight_that_is_none_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="a weight lies above 0 and up to 100"):
        AnnotatedSource.parse(text, sparse=False)


def test_a_run_has_the_date_of_the_day_it_was_begun(tmp_path: Path) -> None:
    registry, today = Registry(str(tmp_path)), datetime.now(UTC).date()
    yesterday = (today - timedelta(days=1)).isoformat()
    assert name_of_today(registry) == today.isoformat()
    write_manifest(f"{tmp_path}/runs/{yesterday}", {}, "running", {"parent": None})
    assert name_of_today(registry) == yesterday
    write_manifest(f"{tmp_path}/runs/{yesterday}", {}, "finished", {"parent": None, "outcome": ""})
    assert name_of_today(registry) == today.isoformat()
