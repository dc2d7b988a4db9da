"""V-07: the numbers of a batch."""

import math
from itertools import permutations

from tests.unit.analysis.samples import failed, parsed

from batches.analysis.statistics import (
    CODES_RANKED,
    FILES_NAMED,
    ParsedFile,
    gather_statistics,
    percent,
)


def test_an_empty_batch_is_all_zeros_and_never_nan() -> None:
    numbers = gather_statistics([]).model_dump()
    assert all(not value for value in numbers.values())
    assert not any(isinstance(v, float) and math.isnan(v) for v in numbers.values())


def test_a_batch_of_failures_counts_them_and_nothing_else() -> None:
    statistics = gather_statistics([failed("a.log"), failed("b.log")])
    assert (statistics.files_total, statistics.files_failed, statistics.events) == (2, 2, 0)
    assert statistics.parsed_percent == 0.0
    assert statistics.time_start is None


def test_percent_has_no_division_by_zero() -> None:
    assert percent(3, 0) == 0.0
    assert percent(1, 8) == 12.5


def test_codes_merge_across_files_and_rank_by_total() -> None:
    files = [parsed("a", {"X": 3, "Y": 9}), parsed("b", {"X": 8}), parsed("c", {"Z": 11})]
    ranked = gather_statistics(files).top_error_codes
    assert [(c.code, c.total, c.file_count) for c in ranked] == [
        ("X", 11, 2),
        ("Z", 11, 1),
        ("Y", 9, 1),
    ]
    assert ranked[0].files == ["b", "a"]


def test_the_order_of_files_does_not_matter() -> None:
    files = [parsed("a", {"X": 3}), parsed("b", {"X": 3, "Y": 1}), failed("c")]
    results = {gather_statistics(order).model_dump_json() for order in permutations(files)}
    assert len(results) == 1


def test_ranks_and_named_files_are_bounded_but_counts_exact() -> None:
    many = {f"C{i}": 1 for i in range(CODES_RANKED + 30)} | {"TOP": 7}
    files = [parsed(f"file-{i:03d}", many) for i in range(FILES_NAMED + 5)]
    top = gather_statistics(files).top_error_codes
    assert len(top) == CODES_RANKED
    assert top[0].code == "TOP"
    assert top[0].file_count == FILES_NAMED + 5
    assert len(top[0].files) == FILES_NAMED


def test_files_stand_worst_first_and_failed_last() -> None:
    rows = gather_statistics([failed("x"), parsed("calm"), parsed("bad", {"E": 5})]).files
    assert [row.name for row in rows] == ["bad", "calm", "x"]
    assert rows[0].error_percent == 0.5
    assert rows[0].top_code == "E"


def test_a_completed_file_without_features_counts_as_read() -> None:
    file = ParsedFile(file_id="1", name="fleet.dbc", status="completed")
    statistics = gather_statistics([file])
    assert (statistics.files_parsed, statistics.formats) == (1, {})


def test_only_wall_clock_files_set_the_time_range() -> None:
    relative = parsed("flight.ulg")
    assert relative.features is not None
    relative.features.wall_clock = False
    relative.features.time_start = 3.0
    statistics = gather_statistics([relative, parsed("a")])
    assert (statistics.time_start, statistics.time_end) == (1_763_085_600.0, 1_763_091_000.0)
    assert gather_statistics([relative]).time_start is None
