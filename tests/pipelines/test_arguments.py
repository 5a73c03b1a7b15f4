"""Command lines of all pipelines: their help, and what is wrong with them, said before what takes seconds to import."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT

PIPELINES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py"))
FLAG = r"(--[\w-]+)"

CODE = f"""
import sys
from importlib import import_module

import tyro

for name in {PIPELINES!r}:
    pipeline = import_module(f"pipelines.{{name}}")
    print(f"== {{name}}")
    try:
        pipeline.main(["--help"])
    except SystemExit as ended:
        assert ended.code == 0
    print("== tyro")
    try:
        tyro.cli(pipeline.Arguments, args=["--help"], config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit:
        pass
    assert pipeline.main(["--no-such-flag"]) == 2
    heavy = {{"torch", "ray", "pyarrow", "transformers"}} & sys.modules.keys()
    assert not heavy, f"{{name}} imports {{heavy}}"
"""


@pytest.fixture(scope="module")
def said() -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Help of each pipeline, tyro's of its arguments, and what all say of a flag that is none."""
    ended = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    texts = re.split(r"^== \w+\n", ended.stdout, flags=re.MULTILINE)[1:]
    helps, of_tyro = (dict(zip(PIPELINES, texts[start::2], strict=True)) for start in (0, 1))
    return helps, of_tyro, ended.stderr.splitlines()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_help_shows_an_example_and_every_flag_in_a_section(
    name: str, said: tuple[dict[str, str], dict[str, str], list[str]]
) -> None:
    text, of_tyro = said[0][name], said[1][name]
    about, *sections = re.split(r"^(\S.*):\n(?=  --)", text, flags=re.MULTILINE)
    assert f"python pipelines/{name}.py --" in about
    assert sections[0] == "Flags"
    assert sorted(re.findall(rf"^  {FLAG}", text, re.MULTILINE)) == sorted(re.findall(rf"^│ {FLAG}", of_tyro, re.M))
    required = of_tyro.count("(required)")
    assert text.count("(needed)") == required


def test_a_flag_that_is_none_is_said_in_one_line(said: tuple[dict[str, str], dict[str, str], list[str]]) -> None:
    assert said[2] == [f"{name}: no flag --no-such-flag (see --help)" for name in PIPELINES]
