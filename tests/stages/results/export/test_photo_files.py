"""Exported photos show every reader the colours that were labelled."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from aopsam.photos.decode import open_photo
from stages.results.export.photo_files import jpeg_photo, plain_photo
from stages.results.export.selection import Photo
from tests.helpers.photo_bytes import encode
from tests.helpers.profiles import rgb_profile

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exported(data: bytes) -> Photo:
    return Photo(1, 1, {"width": 16, "height": 16}, [], data)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_colours_of_a_wide_gamut_are_written_as_srgb(format: str) -> None:
    data = encode(Image.new("RGB", (16, 16), (100, 200, 100)), format, icc_profile=rgb_profile())
    labelled = open_photo(data).rgb.astype(int)
    plain, _ = plain_photo(exported(data))
    for written, within in ((plain, 0), (jpeg_photo(exported(data)), 3)):
        with Image.open(io.BytesIO(written)) as image:
            assert "icc_profile" not in image.info
            np.testing.assert_allclose(np.asarray(image).astype(int), labelled, atol=within)


def test_photos_in_srgb_are_exported_as_stored() -> None:
    data = encode(Image.new("RGB", (16, 16), (100, 200, 100)), "JPEG", icc_profile=SRGB)
    assert plain_photo(exported(data)) == (data, ".jpg")
    assert jpeg_photo(exported(data)) == data
