"""What Hugging Face's Accelerate wraps around a loader, and a guard against it.

``Accelerator.prepare`` shares out the batches of every loader over the ranks: it lets one rank read and send the others
their part, or lets every rank read and drop what belongs to the others. A dataset that gives each rank its own samples
would be shared out twice, and most of each epoch silently lost. ``StreamingDataLoader`` says that it is prepared
already, and is left alone; where another loader was wrapped, the first iteration says so. transformers' ``Trainer``
and what builds on it prepare the loaders that they make.
"""

import sys
from typing import Any

from arrowstream.errors import SharedOutTwiceError


def check_shared_out_once(source: object) -> None:
    """Refuse to be read by a loader of Accelerate that shares out what is this rank's own already.

    Args:
        source: The dataset or the sampler that is about to be iterated over.

    Raises:
        SharedOutTwiceError: It is.
    """
    state = sys.modules.get("accelerate.state")
    loader = state.GradientState().active_dataloader if state is not None else None
    if loader is not None and (wrapper := _sharing(loader, source)):
        raise SharedOutTwiceError(
            f"Accelerate reads this {type(source).__name__} through its {wrapper}, which shares out again what each "
            f"rank reads of its own: most samples would be lost. Give a StreamingDataLoader to Accelerator.prepare() "
            f"(for transformers' Trainer: return one from get_train_dataloader), or have Accelerate alone share out, "
            f"with StreamingDataset(..., rank=0, world_size=1); see docs/trainers.md"
        )


def _sharing(loader: Any, source: object) -> str | None:
    """Name the class of Accelerate that shares out what comes from a source; None where it comes unchanged."""
    batches = loader.batch_sampler
    shares_batches = type(batches).__name__ == "BatchSamplerShard"
    if shares_batches:
        batches = batches.batch_sampler
    is_source = loader.dataset is source or getattr(batches, "sampler", None) is source
    # The loaders of Accelerate say that their class is torch's; type() is not deceived.
    if type(loader).__name__ == "DataLoaderDispatcher" and is_source:
        return "DataLoaderDispatcher"
    if shares_batches and is_source:
        return "BatchSamplerShard"
    is_shard = type(loader.dataset).__name__ == "IterableDatasetShard"
    return "IterableDatasetShard" if is_shard and loader.dataset.dataset is source else None
