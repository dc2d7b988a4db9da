"""V-07: charts from the tables of the parsers."""

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.analysis.samples import (
    failed,
    movers_csv,
    no_tables,
    parsed,
    tables_of,
    timeline_csv,
)

from batches.analysis.charts import SIGNAL_CHARTS, Tables, draw_charts
from batches.analysis.statistics import ParsedFile, gather_statistics
from batches.analysis.style import readable, short, time_unit

PNG = b"\x89PNG\r\n\x1a\n"
FLEET = [
    parsed("vehicle-01.can.log", {"CAN_ERROR_FRAME": 180}, format_name="can", events=55_000),
    parsed("vehicle-02.ota.log", {"E2107": 4}, events=4_000),
    failed("empty.log"),
]
FULL = tables_of(timeline=timeline_csv(), movers=movers_csv())


def draw(files: list[ParsedFile], tables: Tables = FULL) -> dict[str, bytes]:
    return draw_charts(files, gather_statistics(files), tables)


def test_a_batch_gets_its_four_kinds_of_charts() -> None:
    charts = draw(FLEET)
    assert list(charts) == [
        "severity_over_time",
        "top_error_codes",
        "events_per_file",
        "signals_vehicle-01.can",
    ]
    for image in charts.values():
        assert image.startswith(PNG)
        assert struct.unpack(">I", image[16:20]) == (900,)
        assert len(image) < 150_000


def test_equal_input_gives_equal_bytes_even_in_parallel() -> None:
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: draw(FLEET), range(4)))
    assert all(charts == drawn[0] for charts in drawn)


@pytest.mark.parametrize("files", [[], [ParsedFile(file_id="1", name="a", status="completed")]])
def test_no_data_gives_no_severity_chart_and_no_crash(files: list[ParsedFile]) -> None:
    charts = draw(files, no_tables)
    assert "severity_over_time" not in charts
    assert "top_error_codes" not in charts


def test_a_batch_of_failures_still_shows_which_files_failed() -> None:
    assert list(draw([failed("a.log", "cut off")], no_tables)) == ["events_per_file"]


@pytest.mark.parametrize(
    "timeline",
    [
        "",
        "offset_s,critical,error,warning,info\n",
        "offset_s,critical,error,warning,info\n0,0,0,0,12\n",
        "something,else\n1,2\n",
        "offset_s,critical,error,warning,info\nnan,1,x,,\n0,inf,1,1,1\n",
    ],
)
def test_tables_without_usable_rows_draw_nothing(timeline: str) -> None:
    assert "severity_over_time" not in draw([FLEET[1]], tables_of(timeline=timeline))


def test_one_bucket_is_enough() -> None:
    timeline = "offset_s,critical,error,warning,info\n0,1,0,0,0\n"
    assert "severity_over_time" in draw([FLEET[1]], tables_of(timeline=timeline))


@pytest.mark.parametrize(
    "name", ["日本語-ログ.can.log", "a$x^2$b_{.log", "line\nbreak\x00.log", "🚗.blf"]
)
def test_odd_names_neither_warn_nor_break(name: str) -> None:
    charts = draw([parsed(name, {name: 3}, format_name="can"), failed(name * 20, name * 9)])
    assert len(charts) == 4
    assert all(key.isascii() and "/" not in key for key in charts)


def test_names_with_one_stem_get_charts_of_their_own() -> None:
    files = [parsed(f"车{i}/x.log", {"E": 9 - i}, format_name="can") for i in range(6)]
    names = [name for name in draw(files) if name.startswith("signals_")]
    assert names == ["signals_x", "signals_x_2", "signals_x_3", "signals_x_4"]
    assert len(names) == SIGNAL_CHARTS


def test_wide_spreads_get_a_logarithmic_axis() -> None:
    files = [parsed("big", events=4_000_000), parsed("small", events=12), parsed("none", events=0)]
    assert draw(files, no_tables)["events_per_file"].startswith(PNG)


def test_hundreds_of_files_stay_small() -> None:
    files = [parsed(f"vehicle-{i:03d}.ota.log", {f"E{i}": i}, events=i) for i in range(1, 300)]
    assert all(len(image) < 150_000 for image in draw(files).values())


def test_labels_keep_both_ends() -> None:
    assert readable("a" * 30 + "z" * 30, 20) == "a" * 13 + "…" + "z" * 6
    assert [short(n) for n in (950, 10_000, 55_470, 999_800)] == ["950", "10k", "55.5k", "1M"]
    assert [time_unit(s)[1] for s in (90, 5400, 90_000)] == ["s", "min", "h"]
