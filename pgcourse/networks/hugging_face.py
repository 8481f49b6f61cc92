"""A causal language model of Hugging Face's ``transformers``, as the algorithms here ask for one.

from transformers import AutoModelForCausalLM
policy = HuggingFaceModel(AutoModelForCausalLM.from_pretrained("…"))

``transformers`` is not among what this package needs: pip install "pgcourse[transformers]".

The model is in evaluation mode. With dropout, log π of an answer would be another number each time it is
asked for: importance weights would not begin at 1, and a model would have a KL divergence from its own copy.
Prompts of a batch have one length, so there is no padding in front of them and no attention mask.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pgcourse.arrays import Float
from pgcourse.networks.autoregressive import as_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HuggingFaceModel(nn.Module):
    """Logits of the next token, and a cache, from a model of ``transformers``.

    Args:
        model: a causal language model, such as ``GPT2LMHeadModel``. It is not copied, and set to evaluation
            mode.

    Raises:
        ImportError: if ``transformers`` is not installed.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        try:
            from transformers import PreTrainedModel
        except ImportError as error:
            needed = 'HuggingFaceModel needs transformers: pip install "pgcourse[transformers]"'
            raise ImportError(needed) from error
        if not (isinstance(model, PreTrainedModel) and model.can_generate()):
            kind = type(model).__name__
            raise ValueError(f"model must be a causal language model of transformers, got {kind}")
        self.model, self.n_tokens = model.eval(), int(model.config.vocab_size)
        new = "cache" in inspect.signature(model.forward).parameters
        self.cache = "cache" if new else "past_key_values"  # before transformers 5.24

    def train(self, mode: bool = True) -> HuggingFaceModel:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(self, tokens: object) -> Float[Tensor, "N T K"]:
        """Return at each position the logits of the next token, for sequences of shape (N, T)."""
        return self.model(input_ids=as_tokens("tokens", tokens, self.n_tokens), use_cache=False).logits

    def extend(self, tokens: object, cache: Any) -> tuple[Float[Tensor, "N T K"], Any]:
        """Return the same for tokens that follow those in the cache, and the cache of all; None is empty."""
        t = as_tokens("tokens", tokens, self.n_tokens)
        output = self.model(input_ids=t, use_cache=True, **{self.cache: cache})
        return output.logits, getattr(output, self.cache)
