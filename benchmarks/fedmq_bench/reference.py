"""The reference: FedCLIP's local epoch in plain PyTorch, as its published loop runs it.

Written from the paper (Lu, Hu, Wang, Xie 2023, arXiv:2302.13485) and a description of the code, not from the code.
Both frozen encoders run on every batch in every epoch, the text encoder once per image although there are only as many
different prompts as classes; then the adapter, CLIP's symmetric contrastive loss inside the batch, and Adam with
coupled weight decay.
"""

from typing import TYPE_CHECKING, Any

from fedmq_models.training import Training

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# The published settings; our side runs with the same ones.
TRAINING = Training(
    loss="reference", optimizer="adam", lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, batch_size=32
)


class Loop:
    """One node's loop: a CLIP model whose towers are frozen, and the adapter that learns."""

    def __init__(self, clip: Any, adapter: "nn.Module") -> None:
        from torch import optim

        self._clip = clip
        self.adapter = adapter
        self._optimizer: torch.optim.Optimizer = optim.Adam(
            adapter.parameters(),
            lr=TRAINING.lr,
            betas=TRAINING.betas,
            eps=TRAINING.eps,
            weight_decay=TRAINING.weight_decay,
        )

    def step(self, pixels: "Tensor", tokens: "Tensor") -> float:
        """Train on one batch and return its loss.

        pixels     (b, 3, size, size) float32, preprocessed
        tokens     (b, context) int64, the prompt of each image's own class
        """
        import torch
        from torch.nn.functional import cross_entropy

        image = self._clip.encode_image(pixels).float()
        text = self._clip.encode_text(tokens).float()
        image = self.adapter(image) * image
        image = image / image.norm(dim=1, keepdim=True)
        text = text / text.norm(dim=1, keepdim=True)
        logits = self._clip.logit_scale.exp() * image @ text.t()
        own = torch.arange(len(pixels))
        loss = (cross_entropy(logits, own) + cross_entropy(logits.t(), own)) / 2
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())


def adapter(dim: int) -> "nn.Module":
    """Return FedCLIP's attention adapter, without the product with its input."""
    from torch import nn

    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim), nn.Softmax(dim=1))
