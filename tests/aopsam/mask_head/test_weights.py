"""A mask head's file: written and read, refused where it does not fit, found for the weights that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aopsam.mask_head.network import MaskHead
from aopsam.mask_head.weights import find_mask_head, load_mask_head, save_mask_head
from aopsam.sam.registry import load_sam


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    head = MaskHead()
    head.sam, head.sam_sha256 = "tiny", "0" * 64
    save_mask_head(head, tmp_path / "head.safetensors", {"seed": "0"})
    return tmp_path / "head.safetensors"


def test_what_was_saved_is_read(saved: Path) -> None:
    head = load_mask_head(saved)
    assert (head.sam, head.sam_sha256, len(head.sha256), head.training) == ("tiny", "0" * 64, 64, False)
    for name, tensor in load_file(saved).items():
        assert torch.equal(head.state_dict()[name].float(), tensor.float())


def test_a_file_of_something_else_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such mask head; train one with pipelines/train_mask_head\.py"):
        load_mask_head(tmp_path / "none")
    tensors = load_file(saved)
    save_file(tensors, saved, {"sam": "tiny"})
    with pytest.raises(ValueError, match="metadata lacks 'sam_sha256'"):
        load_mask_head(saved)
    save_file({"gain": tensors["gain"]}, saved, {"sam": "tiny", "sam_sha256": ""})
    with pytest.raises(ValueError, match="not the tensors of a mask head"):
        load_mask_head(saved)


def test_a_mask_head_is_found_for_its_own_weights_alone(saved: Path) -> None:
    sam = load_sam("tiny")
    found = find_mask_head(sam)
    assert found is not None
    assert found.sam_sha256 == sam.sha256
    with pytest.raises(ValueError, match=r"a mask head of tiny \(000000000000\), not of tiny"):
        find_mask_head(sam, str(saved))
    sam.sha256 = "0" * 64
    assert find_mask_head(sam) is None
    assert find_mask_head(sam, str(saved)) is not None
