from __future__ import annotations

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam.curation.features import MaskGeometry, mask_geometry, photo_statistics, pooled_embedding
from aopsam.masks import rle
from aopsam.sam.encode import encode
from tests.helpers.made_shard import rectangle

HW = (100, 200)


def test_a_mask_in_the_middle_and_one_in_a_corner() -> None:
    middle = mask_geometry(rle.encode(rectangle(HW, 40, 80, 20, 40)), HW)
    corner = mask_geometry(rle.encode(rectangle(HW, 99, 199, 1, 1)), HW)
    assert middle == MaskGeometry(scale=pytest.approx(0.2), offset=pytest.approx(0.0))
    assert corner is not None
    assert corner.offset == pytest.approx(1, abs=0.01)


def test_an_empty_mask_has_no_geometry_and_a_wrong_one_is_named() -> None:
    assert mask_geometry(rle.encode(np.zeros(HW, bool)), HW) is None
    with pytest.raises(ValueError, match=r"mask of \(100, 200\) \[h, w\], photo of \(50, 50\)"):
        mask_geometry(rle.encode(np.ones(HW, bool)), (50, 50))
    with pytest.raises(ValueError, match="RLE counts"):
        mask_geometry({"size": [100, 200], "counts": "!"}, HW)


def test_statistics_of_a_photo() -> None:
    found = photo_statistics([MaskGeometry(0.1, 0.0), MaskGeometry(0.2, 0.5), MaskGeometry(0.9, 1.0)])
    assert (found.masks, found.object_scale, found.layout) == (3, 0.2, 0.5)


def test_the_pooled_embedding_leaves_padding_out(small_sam: Sam) -> None:
    photo = encode(small_sam, np.random.default_rng(0).integers(0, 255, (32, 128, 3), dtype=np.uint8))
    shown = photo.embedding[0, :, :2].mean(dim=(1, 2)).numpy()
    pooled = pooled_embedding(photo)
    assert pooled.dtype == np.float16
    np.testing.assert_allclose(pooled, shown / np.linalg.norm(shown), atol=1e-3)
