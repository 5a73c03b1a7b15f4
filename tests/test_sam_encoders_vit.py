from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aopsam.sam.registry import MODELS, load_sam

SIZES = ["vit_b", "vit_l", "vit_h"]


def description(encoder: nn.Module) -> list[tuple[object, ...]]:
    """What decides an encoder's answers besides its weights."""
    settings = ("window_size", "num_heads", "scale", "use_rel_pos", "img_size", "eps")
    return [
        (name, type(module), module.extra_repr(), [getattr(module, setting, None) for setting in settings])
        for name, module in encoder.named_modules()
    ]


@pytest.mark.parametrize("name", SIZES)
def test_is_configured_as_in_the_package(name: str) -> None:
    from segment_anything import sam_model_registry  # beside a CPU torch, only after aopsam

    with torch.device("meta"):
        theirs, ours = sam_model_registry[name](), MODELS[name].build()
    assert description(ours.image_encoder) == description(theirs.image_encoder)
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_vit_b_loads_strictly_and_embeds_exactly_as_the_package(tmp_path: Path) -> None:
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    theirs = sam_model_registry["vit_b"]()
    for parameter in theirs.image_encoder.parameters():
        if not parameter.any():  # positions start at zero: give them something to say
            nn.init.normal_(parameter, std=0.5)
    torch.save(theirs.state_dict(), tmp_path / "vit_b.pth")
    save_file(theirs.state_dict(), tmp_path / "vit_b.safetensors")
    ours = load_sam("vit_b", tmp_path / "vit_b.pth")
    again = load_sam("vit_b", tmp_path / "vit_b.safetensors").state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in ours.state_dict().items())
    photo = torch.randint(0, 256, (1, 3, 700, 1024))
    with torch.no_grad():
        embeddings = [model.image_encoder(model.preprocess(photo)) for model in (ours, theirs)]
    assert torch.equal(embeddings[0], embeddings[1])


def test_half_precision_of_a_small_vit() -> None:
    from segment_anything import SamPredictor
    from segment_anything.modeling import ImageEncoderViT

    from aopsam.sam.model import assemble

    encoder = ImageEncoderViT(
        img_size=256,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=256,
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    )
    predictor = SamPredictor(assemble(encoder).half())
    rgb = torch.randint(0, 256, (200, 256, 3), dtype=torch.uint8).numpy()
    predictor.set_image(rgb)
    assert predictor.get_image_embedding().dtype == torch.float16
    masks, _, _ = predictor.predict(box=torch.tensor([10, 10, 100, 90]).numpy())
    assert masks.shape == (3, 200, 256)
