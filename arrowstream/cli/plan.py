"""``arrowstream plan``: what an order of a dataset mixes, and what it makes each machine hold and fetch."""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.cli.report import Report
from arrowstream.dataset import StreamingDataset
from arrowstream.plan.mosaic.shuffles import SHUFFLES
from arrowstream.plan.partition import TAILS
from arrowstream.plan.quality import Residency, Units, distinct_per_batch, label_distance, residency
from arrowstream.plan.view import PlanView
from arrowstream.plan.window import SHUFFLE_UNITS, Shards, ShuffleUnit
from arrowstream.reader import shards_of
from arrowstream.storage.remote import RANGE_BYTES
from arrowstream.units import format_bytes, parse_count
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

_LABELS_AT_ONCE = 1 << 18


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "plan",
        help="show what an order mixes, holds and fetches",
        description="Go through the order of an epoch without reading the data, and tell how well each batch is mixed "
        "and what each machine has to hold and to fetch. Only --label reads data: that column, of all samples.",
    )
    parser.add_argument("dataset", help="directory or URL of a dataset, or of its index.json")
    parser.add_argument("--batch-size", type=_at_least_1, default=256, help="samples of a batch on one rank (256)")
    parser.add_argument("--nodes", type=_at_least_1, default=1, help="machines (1)")
    parser.add_argument("--ranks", type=_at_least_1, default=1, help="ranks of each machine (1)")
    parser.add_argument("--workers", type=_at_least_1, default=1, help="loading processes of each rank (1)")
    parser.add_argument("--replication", type=_at_least_1, help="consecutive ranks that read the same samples")
    parser.add_argument("--epoch", type=int, default=0, help="from 0")
    parser.add_argument("--seed", type=int, default=9176, help="shuffle_seed (9176)")
    parser.add_argument("--no-shuffle", action="store_true", help="the samples in their order")
    parser.add_argument("--shuffle-algo", choices=sorted(SHUFFLES), help="an order of mosaicml-streaming")
    parser.add_argument("--shuffle-unit", choices=SHUFFLE_UNITS, help="what the shuffle moves as a whole")
    parser.add_argument("--shuffle-budget", help='bytes that may be live in the whole job, as "2gb"')
    parser.add_argument("--shuffle-block-size", type=_at_least_1, help="samples that are shuffled with each other")
    parser.add_argument("--canonical-nodes", type=_at_least_1, help="distant places that every batch draws from")
    parser.add_argument("--tail", choices=TAILS, default="repeat", help="what becomes of the last samples (repeat)")
    parser.add_argument("--label", metavar="COLUMN", help="tell how far the labels of a batch are from the data's")
    parser.add_argument("--samples", default="4m", help='go through this many samples of the epoch, as "100k" (4m)')
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    dataset = StreamingDataset(
        remote=arguments.dataset.removesuffix("index.json") or ".",
        batch_size=arguments.batch_size,
        shuffle=not arguments.no_shuffle,
        shuffle_seed=arguments.seed,
        shuffle_algo=arguments.shuffle_algo,
        shuffle_block_size=arguments.shuffle_block_size,
        shuffle_unit=arguments.shuffle_unit,
        shuffle_budget=arguments.shuffle_budget,
        num_canonical_nodes=arguments.canonical_nodes,
        replication=arguments.replication,
        tail=arguments.tail,
    )
    world = World(num_nodes=arguments.nodes, ranks_per_node=arguments.ranks, workers_per_rank=arguments.workers)
    view = dataset.plan(arguments.epoch, world=world)
    settings = view.settings
    unit: ShuffleUnit = settings.get("shuffle_unit", "shard")
    shards = shards_of([stream.index for stream in dataset.streams])
    units = Units.of(shards, unit)
    full_steps = view.num_samples // view.samples_per_step
    steps = min(full_steps, max(parse_count(arguments.samples) // view.samples_per_step, 1))
    if not steps:
        raise ValueError(f"{view.num_samples} samples do not fill a step of {view.samples_per_step}")
    simulated = _Simulated(view=view, units=units, steps=steps, whole_epoch=steps == full_steps)
    groups = [group for stream in dataset.streams for group in stream.index.groups]
    fetching = _Fetching.of(shards, unit, np.concatenate([group.file_bytes for group in groups]))
    facts: dict[str, Any] = {
        "samples": dataset.num_samples,
        "shards": dataset.num_shards,
        "bytes": int(shards.num_bytes.sum()),
        "order": settings["shuffle_algo"] or "arrowstream",
        **{name: settings[name] for name in ("shuffle", "shuffle_block_size", "num_canonical_nodes")},
        "unit": unit,
        "units": len(units.num_samples),
        "samples_per_step": view.samples_per_step,
        "steps": view.num_steps,
        "steps_per_worker": -(-view.num_steps // arguments.workers),
        "steps_simulated": steps,
        **simulated.mixing(),
        **(simulated.labels(_read_labels(dataset, arguments.label)) if arguments.label else {}),
    }
    nodes = simulated.nodes(fetching)
    facts |= {"minimum_cache_of_a_node": format_bytes(max(node["live_bytes_max"] for node in nodes))}
    return Report(facts=facts, tables={"nodes": nodes})


@dataclass(frozen=True, kw_only=True)
class _Simulated:
    """The first full steps of an epoch."""

    view: PlanView
    units: Units
    steps: int
    whole_epoch: bool

    def _batches(self) -> IntArray:
        return self.view.samples(0, self.steps * self.view.samples_per_step).reshape(self.steps, -1)  # (steps, batch)

    def mixing(self) -> dict[str, Any]:
        return {"units_per_batch": distinct_per_batch(self.units.of_samples(self._batches()))}

    def labels(self, labels: IntArray) -> dict[str, Any]:
        """Compare with the data, and with what batches of independently drawn samples would come to."""
        shares = np.bincount(labels) / len(labels)
        drawn = np.random.default_rng(0).choice(labels, (min(self.steps, 2000), self.view.samples_per_step))
        return {
            "label_distance": label_distance(labels[self._batches()], shares),
            "label_distance_of_random_batches": label_distance(drawn, shares),
        }

    def nodes(self, fetching: "_Fetching") -> list[dict[str, Any]]:
        """Tell for each machine what it holds and fetches."""
        rows = []
        for number, ids in enumerate(self.view.steps_by_node(0, self.steps)):
            used = fetching.pieces.of_samples(ids).reshape(self.steps, -1)
            held = residency(used, fetching.pieces, whole_epoch=self.whole_epoch)
            rows.append(
                {
                    "node": number,
                    "live_bytes_mean": round(held.mean_bytes),
                    "live_bytes_max": held.max_bytes,
                    "downloads": len(held.fetches),
                    "downloads_per_step": len(held.fetches) / self.steps,
                    "gets_per_step": fetching.gets(held) / self.steps,
                    "bytes_per_step": int(fetching.file_bytes[held.fetches].sum()) / self.steps,
                }
            )
        return rows


@dataclass(frozen=True, kw_only=True)
class _Fetching:
    """What is fetched at once: shards, or the record batches of those that can be cut.

    Attributes:
        pieces: In the order of their ids.
        shards: The shard of each, int64 of shape (pieces,).
        file_bytes: Its length in the remote, int64 of shape (pieces,).
        is_cut: Whether a shard is fetched in several pieces, bool of shape (shards,).
    """

    pieces: Units
    shards: IntArray
    file_bytes: IntArray
    is_cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, shards: Shards, unit: ShuffleUnit, file_bytes: IntArray) -> "_Fetching":
        parts = shards.parts(unit)
        holding = parts.num_samples > 0  # nothing is fetched of an empty shard
        return cls(
            pieces=Units.cut(shards, parts.rows_per_part),
            shards=parts.shards[holding],
            file_bytes=parts.share(file_bytes)[holding],
            is_cut=parts.is_cut,
        )

    def gets(self, held: Residency) -> int:
        """Count requests: one a record batch and one for the footer of its shard, or the ranges of a whole shard."""
        shards = self.shards[held.fetches]
        cut = self.is_cut[shards]
        ranges = (-(-self.file_bytes[held.fetches] // RANGE_BYTES)).clip(1)
        return int(np.where(cut, 1, ranges).sum()) + len(np.unique(shards[cut]))


def _read_labels(dataset: StreamingDataset, column: str) -> IntArray:
    """Read one column of all samples as numbers from 0, int64 of shape (samples,)."""
    chunks = []
    for start in range(0, dataset.size, _LABELS_AT_ONCE):
        ids = np.arange(start, min(start + _LABELS_AT_ONCE, dataset.size))
        chunks += dataset.take(ids, columns=[column]).column(column).chunks
    try:
        encoded = pa.chunked_array(chunks).combine_chunks().dictionary_encode(null_encoding="encode")
    except (pa.ArrowNotImplementedError, AttributeError) as error:
        raise ValueError(f"the column {column!r} of type {chunks[0].type} holds no labels ({error})") from error
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _at_least_1(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return number
