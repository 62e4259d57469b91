"""One of our checkpoints as mlserver serves it; imported by mlserver, in an environment of its own that has torch."""

from __future__ import annotations

from pathlib import Path

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from teachers import intake


class Checkpoint(MLModel):  # type: ignore[misc]  # mlserver has no types here
    """Raw pixels (N, C, H, W) to logits."""

    async def load(self) -> bool:
        """Open the checkpoint that the model's settings name."""
        weights = intake.open_weights(Path(self.settings.parameters.uri))
        card = weights.card
        assert card is not None
        teacher = intake.assemble(weights, card.architecture, len(card.classes), card.shape, card.normalize)
        self.network = teacher.here.eval()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request."""
        images = torch.from_numpy(self.decode(payload.inputs[0], default_codec=NumpyCodec)).float()
        with torch.no_grad():
            logits = self.network(images).numpy()
        output = NumpyCodec.encode_output("logits", logits)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
