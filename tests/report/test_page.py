"""The report page: whole, offline, escaped, and every cell of a table linked to its run."""

from __future__ import annotations

import argparse
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import Fakes, draw_everything, draw_together
from thaw import __version__
from thaw.commands import report as command
from thaw.errors import UserError
from thaw.exhibits.frame import read_judged
from thaw.files import read_json, write_json
from thaw.report.page import ReportSpec, curve_of, duration, finished, pretty, render, write_report
from thaw.report.samples import samples

VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "polyline", "circle"}


class Page(HTMLParser):
    """Ids, links, sources and text of a page; unclosed and unopened tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.errors: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "src":
                self.sources.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.errors.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fakes, ReportSpec, str]:
    folder: Path = tmp_path_factory.mktemp("report")
    fakes = Fakes(folder, treatments=("scratch", "frozen-0", "frozen-1"), targets={"german": "German"})
    spec = fakes.report(draw_everything(fakes, folder / "freezing"))
    return fakes, spec, render(spec)


def test_page_is_well_formed_and_offline(study: tuple[Fakes, ReportSpec, str]) -> None:
    page = Page(study[2])
    assert page.errors == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.sources) == 3  # figure 2, error rates, published curves
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & page.tags
    assert "@import" not in study[2]
    assert "url(" not in study[2]


def test_every_run_has_a_section_and_every_rate_links_to_it(study: tuple[Fakes, ReportSpec, str]) -> None:
    fakes, _, html = study
    page = Page(html)
    for run in (*fakes.runs, *fakes.sources):
        assert f"run-{run['id']}" in page.ids
        assert run["id"] in page.text
    # Each run: 2 measures with 2 decoders in the rates, as often against each base it is not itself, and its costs.
    for run, bases in zip(fakes.runs, (1, 1, 2), strict=True):
        assert page.links.count(f"#run-{run['id']}") == 2 * 2 * (1 + bases) + 1


def test_page_shows_what_is_behind_a_run(study: tuple[Fakes, ReportSpec, str]) -> None:
    text = Page(study[2]).text
    for words in (
        "mini scale: synthesised speech; not comparable with the published numbers",
        "Published (Eberhard & Zesch 2021, paper scale, logged values)",
        '"hidden": 192',  # the recipe
        '"beta": 0.5',  # decoder settings
        "passed: layer_1",  # frozen tensors of frozen-1
        "1 min 15 s",  # cost
        "2 too long; 3 transcript longer than its audio",
        "CC0 <public domain>",
        "Made & up, 2021",
        "2.11.0",
        f"This page: thaw {__version__}.",
        "In brackets: intervals over 5 speakers, of this trained model.",
        "2: layer_6 2",  # tensors trained
    ):
        assert words in text, words


def test_a_study_begins_with_what_it_found_and_what_it_was_computed_on(study: tuple[Fakes, ReportSpec, str]) -> None:
    fakes, spec, html = study
    page = Page(html)
    assert "freezing-findings" in page.ids
    parts = ("Study: freezing", "Computed on:", "Lowest WER:", "The paper's own finding", "Table 1: corpora")
    places = [page.text.rindex(words) for words in parts]
    assert places == sorted(places)
    assert "torch 2.11.0" in page.text
    other = Path(fakes.runs[0]["record"])
    record = read_json(other)
    write_json(other, record | {"environment": record["environment"] | {"threads": 4}}, sealed=False)
    try:
        assert "come from differing environments: threads 1 (3 runs), 4 (1 run)" in Page(render(spec)).text
    finally:
        write_json(other, record, sealed=False)


def test_a_training_that_was_stopped_is_marked(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-1",), targets={"german": "German"})
    assert "stopped, not finished" not in Page(render(fakes.report([]))).text
    path = Path(fakes.runs[0]["record"])
    write_json(path, read_json(path) | {"best": {"epoch": 6, "dev_loss": 14.0}}, sealed=False)
    text = Page(render(fakes.report([]))).text
    assert "†: the best epoch is the last: this training was stopped, not finished." in text
    assert ", its last: stopped, not finished" in text


def test_text_is_escaped(study: tuple[Fakes, ReportSpec, str]) -> None:
    html = study[2]
    assert "<sterne>" not in html
    assert "&lt;sterne&gt;" in html
    assert "<public domain>" not in html


def test_page_is_byte_stable_for_the_same_files(study: tuple[Fakes, ReportSpec, str]) -> None:
    assert render(study[1]) == study[2]


def test_two_studies_are_shown_in_order_with_what_they_repeat(tmp_path: Path) -> None:
    first = Fakes(tmp_path / "1", ("scratch", "frozen-0", "frozen-1"), targets={"spanish": "Spanish"}, epochs=2)
    treatments = ("scratch", "finetuned", "decoder-only")
    second = Fakes(tmp_path / "2", treatments, targets={"spanish": "Spanish"}, epochs=2, kind="crosslingual")
    made = [row for study in (first, second) for row in draw_everything(study, tmp_path / study.kind)]
    made += draw_together([first, second], tmp_path / "all")
    spec = first.report(made, runs=[*first.runs, *second.runs], credits={"crosslingual": "A post & its numbers"})
    page = Page(render(spec))
    assert page.errors == []
    assert page.open == []
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert {"freezing-table2", "crosslingual-table-wer", "crosslingual-figure4", "all-figure-depth"} <= set(page.ids)
    places = [page.text.rindex(words) for words in ("Study: freezing", "Study: crosslingual", "All studies together")]
    assert places == sorted(places)
    assert "Repeats: A post & its numbers." in page.text
    assert "Published (NVIDIA NeMo blog post 2020, paper scale, dev set)" in page.text
    assert "quartznet, English → Spanish" in page.text
    assert "Spanish, From scratch (scratch), quartznet, seed 1" in page.text  # told from the other study's


def test_a_page_so_far_names_the_studies_that_have_not_ended(tmp_path: Path) -> None:
    first = Fakes(tmp_path / "1", ("scratch", "frozen-0"), targets={"spanish": "Spanish"}, epochs=2)
    second = Fakes(tmp_path / "2", ("scratch", "finetuned"), targets={"spanish": "Spanish"}, kind="crosslingual")
    made = [row for study in (first, second) for row in draw_everything(study, tmp_path / study.kind)]
    members = {one.kind: tuple(run["id"] for run in (*one.runs, *one.sources)) for one in (first, second)}
    sources = [*first.sources, *second.sources]
    spec = first.report(made, runs=[*first.runs, *second.runs], members=members, sources=sources)
    assert finished(spec) == spec
    Path(second.runs[1]["record"]).unlink()
    page = Page(render(finished(spec)))
    assert page.errors == []
    assert "Not finished yet, and not on this page: crosslingual." in page.text
    assert "freezing-table2" in page.ids
    assert not {one for one in page.ids if one.startswith("crosslingual")}
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_a_page_so_far_waits_for_no_exhibit_of_all_studies_together(tmp_path: Path) -> None:
    study = Fakes(tmp_path, ("scratch", "frozen-0"), targets={"spanish": "Spanish"}, epochs=2)
    later = {"study": "all", "name": "table-depth", "title": "Depth", "files": [str(tmp_path / "later.json")]}
    made = draw_everything(study, tmp_path / "freezing")
    found = finished(study.report([*made, later]))
    assert found == study.report(made)
    assert found.unfinished == ()


def test_a_study_has_ended_although_another_one_will_judge_its_runs_too(tmp_path: Path) -> None:
    study = Fakes(tmp_path, ("scratch", "frozen-0"), targets={"spanish": "Spanish"}, epochs=2)
    whole = study.report(draw_everything(study, tmp_path / "freezing"))
    later = whole.runs[0].decodes[0].model_copy(update={"id": "later", "scores": str(tmp_path / "later.json")})
    first = whole.runs[0].model_copy(update={"decodes": (*whole.runs[0].decodes, later)})
    found = finished(whole.model_copy(update={"runs": (first, *whole.runs[1:])}))
    assert found == whole


def test_a_failed_check_stands_out(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-1",), targets={"german": "German"})
    path = Path(fakes.runs[0]["record"])
    record: dict[str, Any] = read_json(path)
    record["checks"]["end"]["frozen"] = {"layer_1": "other bits"}
    write_json(path, record | {"checks": record["checks"] | {"odd": False}})
    text = Page(render(fakes.report([]))).text
    assert "2 FAILED" in text
    assert "FAILED: layer_1" in text


def test_a_version_that_was_not_recorded_is_not_left_blank(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-1",), targets={"german": "German"})
    path = Path(fakes.runs[0]["record"])
    record: dict[str, Any] = read_json(path)
    write_json(path, record | {"environment": record["environment"] | {"thaw": ""}})
    assert "thawversion not recorded" in Page(render(fakes.report([]))).text


def test_tensors_are_counted_by_layer_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-1",), targets={"german": "German"})
    path = Path(fakes.runs[0]["record"])
    record: dict[str, Any] = read_json(path)
    names = [f"layers.{name}" for name in ("block_10.sub.0.norm.bias", "block_2.norm.bias", "block_2.norm.weight")]
    start = record["checks"]["start"] | {"trainable": names, "output_rows_kept": 27}
    write_json(path, record | {"checks": record["checks"] | {"start": start}})
    text = Page(render(fakes.report([]))).text
    assert "3: block_2 2, block_10 1" in text
    assert "rows of the output layer that began as the start's27" in text


def test_what_top_down_training_proved_is_shown(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-1",), targets={"german": "German"})
    path = Path(fakes.runs[0]["record"])
    record: dict[str, Any] = read_json(path)
    checks = record["checks"]
    more = {"start": checks["start"] | {"optimizer": 2}, "end": checks["end"] | {"gradient_through_frozen": ["lstm"]}}
    write_json(path, record | {"checks": checks | more})
    text = Page(render(fakes.report([]))).text
    assert "tensors that the optimiser holds, no other2" in text
    assert "gradients came through frozen layers tolstm" in text


def test_several_seeds_link_to_each_run(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("scratch", "frozen-0"), seeds=(1, 2), targets={"german": "German"}, epochs=2)
    page = Page(render(fakes.report(draw_everything(fakes, tmp_path / "freezing"))))
    assert page.errors == []
    second = next(run["id"] for run in fakes.runs if run["seed"] == 2)
    assert page.links.count(f"#run-{second}") == 2 * 2 * 2 + 1


def test_paper_scale_has_another_badge(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    html = render(fakes.report([], scale="paper", speech="recorded"))
    assert '<span class="badge paper">paper</span>' in html
    assert "not comparable" not in html


@pytest.mark.parametrize("key", ["record", "metrics"])
def test_a_missing_file_is_named(tmp_path: Path, key: str) -> None:
    fakes = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    Path(fakes.runs[0][key]).unlink()
    with pytest.raises(UserError, match=rf"{Path(fakes.runs[0][key]).name}: no such file"):
        write_report(fakes.report([]), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_record_of_another_shape_is_named(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    Path(fakes.runs[0]["record"]).write_text("{}")
    with pytest.raises(UserError, match=r"run\.json: not the record that `thaw train` writes"):
        render(fakes.report([]))


def test_samples_are_the_best_the_median_and_the_worst(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=("frozen-0",), targets={"german": "German"}, utterances=9)
    spec = fakes.report([])
    seed = read_judged(spec.runs[0], spec.runs[0].decodes[0])
    rates = sorted(row.counts["word"].errors / row.counts["word"].total for row in seed.counts)
    shown = samples(seed, each=1)
    assert [sample.place for sample in shown] == ["best", "median", "worst"]
    assert [sample.rate for sample in shown] == [rates[0], rates[4], rates[-1]]
    assert len({sample.id for sample in samples(seed, each=5)}) == 9
    texts = {json.loads(line)["id"]: json.loads(line) for line in Path(seed.decode.hypotheses).read_text().splitlines()}
    assert all(texts[sample.id]["hypothesis"] == sample.hypothesis for sample in shown)


def test_numbers_are_written_for_people() -> None:
    assert [duration(s) for s in (None, 3.21, 75.3, 3700.0)] == ["–", "3.2 s", "1 min 15 s", "1 h 1 min"]
    assert [pretty(v) for v in (True, 1234, 0.123456, [], ["a", "b"], {"a": 1})] == [
        *("yes", "1,234", "0.1235", "none", "a, b"),
        '{"a": 1}',
    ]


def test_small_curves_fit_their_box() -> None:
    curve = curve_of((9.0, 5.0, 1.0), (9.0, 3.0, 5.0), 1)
    assert curve.dev == "0.0,0.0 160.0,67.5 320.0,45.0"
    assert curve.best == (160.0, 67.5)
    assert curve_of((float("nan"),), (float("nan"),), 0).best is None


def test_the_command_writes_the_page(study: tuple[Fakes, ReportSpec, str], tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "results" / "report.html"
    command.run(parser.parse_args(["--report", study[1].model_dump_json(), "--out", str(out)]))
    assert out.read_text() == study[2]
