"""The state of a ``StreamingDataLoader`` in the checkpoints of transformers' ``Trainer``."""

from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from arrowstream.loader import StreamingDataLoader


class LoaderState(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Saves where the training loader stands in ``trainer_state.json``, and goes on from there.

    The ``Trainer`` by itself goes through the epoch from its beginning again, drops what it had trained on, and takes
    the first epoch's order for that of all others. This turns that off, which is its argument ``ignore_data_skip``.

    Use it with a ``Trainer`` whose ``get_train_dataloader`` returns a ``StreamingDataLoader``.
    """

    def __init__(self) -> None:
        self._loader: StreamingDataLoader | None = None

    def on_init_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Have the ``Trainer`` skip nothing by itself."""
        args.ignore_data_skip = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, train_dataloader: Any = None, **__: Any
    ) -> None:
        """Put the loader where the checkpoint has it.

        Raises:
            TypeError: The loader is no ``StreamingDataLoader``.
            ValueError: The checkpoint was made without this callback, or the accumulation of gradients would lose
                batches after a resume.
        """
        loader = train_dataloader
        if not isinstance(loader, StreamingDataLoader):
            raise TypeError(
                f"the Trainer's loader is a {type(loader).__name__}; "
                f"have its get_train_dataloader return a StreamingDataLoader"
            )
        accumulated = args.gradient_accumulation_steps
        if len(loader) % accumulated:
            raise ValueError(
                f"an epoch has {len(loader)} batches, and gradient_accumulation_steps={accumulated} "
                f"does not divide that: after a resume the Trainer would not step on the rest. Take another number, or "
                f"an epoch_size of the dataset that comes out even"
            )
        self._loader = loader
        if state.global_step:
            saved: Any = state.stateful_callbacks.get(type(self).__name__)
            if not saved or not saved["attributes"]:
                raise ValueError(
                    f"the checkpoint at step {state.global_step} has no state of the loader: it was made without "
                    f"{type(self).__name__}() among the callbacks"
                )
            loader.load_state_dict(saved["attributes"]["saved"])

    def state(self) -> dict[str, Any]:
        """Give what goes into the checkpoint."""
        return {"args": {}, "attributes": {} if self._loader is None else {"saved": self._loader.state_dict()}}
