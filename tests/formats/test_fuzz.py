"""A short run of the fuzzer; ``python -m benchmarks.fuzz`` runs it at length."""

from benchmarks.fuzz import CORPORA, fuzz


def test_damaged_shards_and_indexes_are_read_or_refused_by_name() -> None:
    num_mutations = 10 * len(CORPORA)
    outcomes, findings = fuzz(0, num_mutations)
    assert findings == []
    assert outcomes.total() == num_mutations
    # Some are refused and some do no harm: the damage reaches what reads.
    assert {outcome.rpartition(" | ")[2] for outcome in outcomes} >= {"read", "CorruptShardError", "IndexFormatError"}
