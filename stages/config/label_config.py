"""The configuration of a labelling run: everything that decides which masks come out, typed and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import yaml

from aopsam._options import Count, check, checked, coerce, options_of
from aopsam.everything.options import GeneratorOptions
from aopsam.photos.decode import MAX_PIXELS
from aopsam.sam.names import absolute_name
from stages.storage.fetched import read_file
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Settings of what `label_corpus.py` does to each photo.

    Raises:
        ValueError: a value of the wrong type or out of its limits.
    """

    sam: str = "tiny"
    """Model: tiny, mobile_sam, vit_b or any other of aopsam.sam.registry.MODELS; or any SAM of transformers,
    hf:ORG/NAME or hf:FOLDER."""
    checkpoint: str | None = None
    """Weights of the model; by default the bundled or official ones."""
    predictor: str | None = None
    """Weights of the prompt predictor, or REGISTRY@7, REGISTRY@latest; by default the bundled ones."""
    encoder_precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of the image encoder alone: float32, bfloat16, float16, or auto (aopsam/sam/encode.py)."""
    encoder_runtime: Literal["torch", "openvino"] = "torch"
    """Runtime of the image encoder; openvino runs on a CPU and is an extra."""
    prompts: str = "aop"
    """Prompt strategy: aop, grid-N, random-N, hierarchical, oas-box, oas-center, attention, attention-PRESET; or a
    paper's whole method: aop-paper, efficient-sam2, mobile-sam-v2, efficient-sam-amr; with options as in
    "oas-box(detector=FILE)"."""
    strategy_options: dict[str, Any] = field(default_factory=dict)
    """Options of the strategy, where a file of settings gives them."""
    max_pixels: Count = MAX_PIXELS
    """Photos with more pixels are rejected from their header, before decoding."""
    options: GeneratorOptions = field(default_factory=GeneratorOptions)
    """Options of the generator: filters, duplicates, refinement, tiles."""

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> LabelConfig:
        """Build a configuration from a parsed file, where fields of `GeneratorOptions` stand among the others.

        Raises:
            ValueError: an unknown key or a value of the wrong type; the message names source, key and what is right.
        """
        own, after = options_of(cls), options_of(GeneratorOptions)
        del own["options"]
        values = checked(own | after, values, source)
        for name, value in values.get("strategy_options", {}).items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | None):
                raise ValueError(f"{source}: strategy_options {name!r}: {value!r}; expected a name and a plain value")
        options = coerce(GeneratorOptions, {name: value for name, value in values.items() if name in after}, source)
        return cls(options=options, **{name: value for name, value in values.items() if name in own})

    @classmethod
    def from_file(cls, path: str) -> LabelConfig:
        """Build a configuration from a YAML or JSON file.

        Raises:
            ValueError: it is no mapping, or as for `from_mapping`.
            OSError: it cannot be read.
        """
        try:
            values = yaml.safe_load(read_file(path).decode())
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no such day, too many digits
            raise ValueError(f"{path}: not YAML or JSON ({' '.join(str(error).split())})") from error
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
        return cls.from_mapping(values, path)

    def with_written_options(self) -> LabelConfig:
        """Return the configuration with all options in their own fields: those that `prompts` has in brackets, and
        those of a preset where none are given: a manifest holds its values, not its name alone. The folder in
        `hf:FOLDER` becomes absolute.

        Raises:
            ValueError: `prompts` is no strategy, or more than one.
        """
        from aopsam.prompting import PRESETS  # here, since it brings torch: flags are judged before
        from stages.config.strategy_spec import PREDICTOR, parse_strategies

        config = replace(self, sam=absolute_name(self.sam))
        if "(" in self.prompts:
            spec, *more = parse_strategies(self.prompts)
            if more:
                raise ValueError(f"--prompts {self.prompts}: a corpus is labelled with one strategy")
            options = replace(self.options, **spec.generator_options)
            config = replace(config, prompts=spec.name, strategy_options=spec.strategy_options, options=options)
        if PREDICTOR in config.strategy_options:
            own = dict(config.strategy_options)
            config = replace(config, predictor=own.pop(PREDICTOR), strategy_options=own)
        if (preset := PRESETS.get(config.prompts)) is None:
            return config
        options = config.options.filled(preset.after)
        return replace(config, strategy_options=preset.strategy_options(config.strategy_options), options=options)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, of `GeneratorOptions` among the others; URIs without their secrets."""
        values = asdict(self)
        return _redacted(values | values.pop("options"))


def _redacted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: redact(value) if isinstance(value, str) else _redacted(value) if isinstance(value, dict) else value
        for name, value in values.items()
    }


def digest(configuration: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each value that differs: `prompts: 'aop' there, 'grid-32' now`."""
    keys = sorted(before.keys() | now.keys())
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in keys if before.get(key) != now.get(key)
    ]
