"""The order of mosaicml-streaming 0.13, sample by sample: for jobs that were begun with it.

Pure NumPy; an epoch costs time and memory in proportion to its samples. In the order of the data:

* :mod:`arrowstream.plan.mosaic.weights`: proportion, repeat, choose -> samples of each stream.
* :mod:`arrowstream.plan.mosaic.sampling`: samples of a stream -> which of each shard.
* :mod:`arrowstream.plan.mosaic.shuffles`: shuffle units -> sample at each position.
* :mod:`arrowstream.plan.mosaic.partition`: process -> positions.
* :mod:`arrowstream.plan.mosaic.batching`: all of these -> the sample ids of a job.
* :mod:`arrowstream.plan.mosaic.plan`: the names and defaults of ``StreamingDataset`` -> all of these.
"""

from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.replicate import replicate
from arrowstream.plan.mosaic.weights import Mixture, Weight, apply_weights

__all__ = ["Mixture", "MosaicPlan", "Weight", "apply_weights", "replicate"]
