"""Decoupled distillation (Zhang et al. 2023, MobileSAM, section 3.2).

SAM's image encoder and mask decoder need not learn together: the light encoder learns the embedding that the heavy one
gives to the same picture, by mean squared error, with no decoder in the loop. The teacher's prompt encoder and mask
decoder then serve the student as they are. (MobileSAM computes the teacher's embeddings once and stores them; here they
are made as the pictures come, since these are random views.)
"""

from __future__ import annotations

import torch
from torch import nn

from aopsam.training.decode import STRIDE
from aopsam.training.student import StudentTask
from aopsam.training.views import Views, normalised


class DecoupledTask(StudentTask):
    """Student embedding -> teacher embedding."""

    def answer(self, model: nn.Module, batch: Views, generator: torch.Generator) -> torch.Tensor:
        """The student's embedding of the whole picture."""
        with self.recipe.mixed(batch.student.device):
            embedding: torch.Tensor = model(normalised(self.student, batch.student, batch.cells * STRIDE))
        return embedding
