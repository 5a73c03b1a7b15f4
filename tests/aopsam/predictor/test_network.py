from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aopsam.predictor.network import PromptPredictor


def _largest_working_set(predictor: PromptPredictor, image: torch.Tensor, embedding: torch.Tensor) -> int:
    """Most bytes of activations alive at once, by the allocator's own record."""
    with torch.inference_mode():
        predictor(image, embedding)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            predictor(image, embedding)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


@pytest.mark.parametrize(("channels", "grid"), [(256, 32), (256, 64), (48, 20)])
def test_the_map_has_the_size_of_the_frame_whatever_the_embedding(channels: int, grid: int) -> None:
    predictor = PromptPredictor(channels)
    logits = predictor(torch.randn(2, 3, 256, 256), torch.randn(2, channels, grid, grid))
    assert logits.shape == (2, 1, 256, 256)


def test_it_costs_less_than_a_gigaflop_and_42_megabytes() -> None:
    predictor = PromptPredictor().eval()
    image, embedding = torch.randn(1, 3, 256, 256), torch.randn(1, 256, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        predictor(image, embedding)
    assert counter.get_total_flops() < 1e9
    assert _largest_working_set(predictor, image, embedding) < 42e6


def test_the_untrained_map_is_low_everywhere_and_every_layer_learns() -> None:
    torch.manual_seed(0)
    predictor = PromptPredictor(16)
    logits = predictor(torch.randn(1, 3, 64, 64), torch.randn(1, 16, 8, 8))
    assert logits.sigmoid().max() < 0.5
    (logits.sigmoid() - 1).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in predictor.parameters())


def test_the_image_branch_is_three_convolutions_each_with_relu_and_both_branches_have_32_channels() -> None:
    predictor = PromptPredictor()
    layers = [
        layer
        for part in (predictor.image_to_half, predictor.image_to_quarter)
        for layer in part.modules()
        if not isinstance(layer, torch.nn.Sequential)
    ]
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "ReLU"] * 3
    assert [tuple(layer.weight.shape) for layer in layers[::2]] == [(16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3)]
    assert predictor.embedding.weight.shape == (32, 256, 1, 1)
    names = {name.partition(".")[0] for name, _ in predictor.named_parameters()}
    assert names == {"image_to_half", "image_to_quarter", "embedding", "at_quarter", "at_half", "to_full"}


def test_reducing_channels_before_the_resize_equals_resizing_first() -> None:
    torch.manual_seed(0)
    predictor = PromptPredictor(16).eval()
    embedding = torch.randn(1, 16, 8, 8)
    first = torch.nn.functional.interpolate(predictor.embedding(embedding), size=(16, 16), mode="bilinear")
    last = predictor.embedding(torch.nn.functional.interpolate(embedding, size=(16, 16), mode="bilinear"))
    torch.testing.assert_close(first, last)
