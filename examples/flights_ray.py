"""Ray Train, stopped in the middle of an epoch and gone on with, to the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    python examples/flights_ray.py --dir /tmp/flights --save-every 100 --ranks 2

Go on with --resume /tmp/flights/checkpoint.pt. Predicts how late a flight arrives.
"""

import os
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from flights_delay import Delay, training_parser
from torch import distributed

from arrowstream import StreamingDataLoader, StreamingDataset


def train(given: dict[str, Any]) -> None:
    """Train as one worker of Ray's, which has made the process group."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    directory = Path(given["dir"])
    dataset = StreamingDataset(local=directory / "shards", shuffle=True, batch_size=given["batch_size"])
    loader = StreamingDataLoader(dataset, num_workers=given["workers"])  # not through prepare_data_loader()
    model = ray.train.torch.prepare_model(Delay(dropout=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    steps = 0
    if given["resume"]:
        saved = torch.load(given["resume"])
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        steps = saved["steps"]
    while dataset.next_epoch < given["epochs"]:
        for batch in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.l1_loss(model(batch), batch["arr_delay"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            if given["save_every"] and steps % given["save_every"] == 0 and distributed.get_rank() == 0:
                states = {name: part.state_dict() for name, part in parts.items()}
                save(directory / "checkpoint.pt", {**states, "steps": steps})
        ray.train.report({"steps": steps, "loss": loss.item()})
    if distributed.get_rank() == 0:
        torch.save(model.module.state_dict(), directory / given["out"])


def save(checkpoint: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; the state of the loader says the same on every rank."""
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, checkpoint)


def main() -> None:
    """Have Ray start the workers."""
    parser = training_parser(__doc__)
    parser.add_argument("--ranks", type=int, default=1, help="workers of Ray that train (default: 1)")
    given = vars(parser.parse_args())
    # Ray's workers begin in another directory.
    given |= {name: str(value.resolve()) for name, value in given.items() if isinstance(value, Path)}
    trainer = ray.train.torch.TorchTrainer(
        train,
        train_loop_config=given,
        torch_config=ray.train.torch.TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=given["ranks"]),
        run_config=ray.train.RunConfig(storage_path=str(Path(given["dir"]) / "ray")),
    )
    print(trainer.fit().metrics)


if __name__ == "__main__":
    main()
