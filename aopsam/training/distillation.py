"""Train a light encoder to give the teacher's embedding of a picture: decoupled distillation.

As in MobileSAM (Zhang et al. 2023, section 3.2), the light encoder learns the heavy one's embedding of the same picture
by mean squared error, without a decoder. The student then uses the teacher's prompt encoder and mask decoder unchanged.
(MobileSAM computes the teacher's embeddings once and stores them; here they are computed in each step, since pictures
are random views.)
"""

from __future__ import annotations

import torch
from torch import nn

from aopsam.training.decode import STRIDE
from aopsam.training.student import StudentTask
from aopsam.training.views import Views, normalised


class DecoupledTask(StudentTask):
    """Training of a student's encoder: picture in, teacher's embedding out."""

    def answer(self, model: nn.Module, batch: Views, generator: torch.Generator) -> torch.Tensor:
        """Return the student's embedding of the whole picture, (B, 256, h, w)."""
        with self.recipe.mixed(batch.student.device):
            embedding: torch.Tensor = model(normalised(self.student, batch.student, batch.cells * STRIDE))
        return embedding
