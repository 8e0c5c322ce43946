"""The pages made from the days: hours, paths, indices, the figure; planted faults are told."""

import json
import re
import shutil

import pytest

from days.tools.author import common, promise, write
from days.tools.checks import static, verify
from days.tools.data import course, generated, hours, pages, paths

NOTE = """# Day 02 · Vectors by hand

## Question

Why? In 1 minute.

*Time: 35 minutes to read, 7 seconds to run. Builds on: day 01 (text) and days 3 to 4.*

## Exercises

1. **Think.** Why is [this](x.md) so? It takes 2 minutes.

<details><summary>Answer</summary>

1. Build nothing.

</details>

2. *Attack.* "A claim." Break it.
3. **Build.** `double(x)`: twice x. Hint:
   go on.

## Sources

1. **Build.** not an exercise
"""
EXERCISES = '''"""Day 02 · Exercises."""


def double(x):
    """Twice x, for every
    number x.

    More.
    """
    raise NotImplementedError


def helper():
    """Not asked for."""


def check_double(f):
    assert f(2) == 4
'''
MISTAKES = '''"""Day 02 · Mistakes."""

from days.mistake import Mistake

MISTAKES = [Mistake("the sign is lost", "llm/a.py", "x", "y", "norms of <unk> are negative.")]
'''


@pytest.fixture
def root(tmp_path):
    """A course of one day, with a page for each generated block."""
    day = tmp_path / "days" / "day02"
    day.mkdir(parents=True)
    (day / "README.md").write_text(NOTE, encoding="utf-8")
    (day / "exercises.py").write_text(EXERCISES, encoding="utf-8")
    (day / "mistakes.py").write_text(MISTAKES, encoding="utf-8")
    (day / "result.json").write_text(json.dumps({"run_seconds": 90, "value": 2.5}))
    (tmp_path / "notes").mkdir()
    for name in pages.BLOCKS:
        (tmp_path / "notes" / f"{name}.md").write_text(f"<!-- {name} -->\n<!-- /{name} -->\n")
    assert write.write(tmp_path, []) == 0
    return tmp_path


def test_time_is_what_the_note_and_the_result_say_and_a_guess_for_the_exercises(root):
    assert hours.time(root, 2) == hours.Time(35, 1.5, 2 * hours.THINK + hours.BUILD)
    assert hours.total(root, [2, 3, 2]) == hours.Time(70, 3, 4 * hours.THINK + 2 * hours.BUILD)
    assert hours.Time(1, 2, 3).whole == 6


def test_exercises_are_numbered_or_begin_with_their_kind():
    kinds = [kind for kind, _ in hours.exercises(NOTE)]
    assert kinds == ["think", "attack", "build"]
    other = "## Exercises\n\n**Think.** a\nb\n\n**Build.** c\n\nCheck both.\n"
    assert hours.exercises(other) == [("think", "**Think.** a b"), ("build", "**Build.** c")]


def test_prerequisites_are_read_from_the_question():
    assert hours.builds_on(NOTE) == {1, 3, 4}
    assert hours.builds_on("## Question\n\nNo.\n") is None


def test_the_index_of_exercises_has_each_one(root):
    text = (root / "notes/exercises.md").read_text(encoding="utf-8")
    assert "3 exercises: 1 to build" in text and "and 2 to think about or to attack" in text
    assert "- *Think.* Why is this so? It takes 2 minutes.\n" in text
    assert '- *Attack.* "A claim." Break it.\n' in text
    assert "[`double`](../days/day02/exercises.py): Twice x, for every number x.\n" in text
    assert "helper" not in text and "Build nothing" not in text and "Hint" not in text


def test_the_index_of_mistakes_has_each_one(root):
    text = (root / "notes/mistakes.md").read_text(encoding="utf-8")
    assert "1 mistakes." in text
    assert ("- The sign is lost ([`llm/a.py`](../llm/a.py)). Norms of &lt;unk> are negative.\n"
            in text)


@pytest.mark.parametrize("long, shown", [
    ("**Build: best.** (`f`). Do it.", "Best.** (`f`). Do it."),
    ("1 " * 200, "1 " * 89 + "1 …"), ("`f(x)` is <b>.", "`f(x)` is &lt;b>."),
    ("`<b>` stays.", "`<b>` stays."), ("see [a](b.md) now", "See a now"),
    ("Attack. A B.", "A B."), ("First:", "First …")])
def test_short_is_one_line_without_links(long, shown):
    found = pages.short(long)
    assert found == shown or "Best" in shown and "**" not in found
    assert len(found) <= pages.CUT + 2


@pytest.mark.parametrize("path, old, new, page", [
    ("days/day02/README.md", "Break it", "Bend it", "exercises"),
    ("days/day02/exercises.py", "Twice x", "Thrice x", "exercises"),
    ("days/day02/mistakes.py", "sign", "norm", "mistakes"),
    ("days/day02/README.md", "35 minutes", "36 minutes", "paths"),
    ("days/day02/README.md", "day 01 (text)", "day 01 (text), day 06", "paths"),
    ("notes/tree.md", "```text", "```test", "tree")])
def test_a_page_that_no_longer_fits_the_days_is_told(root, path, old, new, page):
    assert list(pages.faults(root)) == []
    text = (root / path).read_text(encoding="utf-8")
    assert old in text
    (root / path).write_text(text.replace(old, new), encoding="utf-8")
    assert any(f"notes/{page}.md: is stale" in fault for fault in pages.faults(root))
    assert write.write(root, []) == 0 and list(pages.faults(root)) == []


def test_markers_on_a_page_read_any_record_and_leave_code_alone(root):
    page = root / "notes" / "new.md"
    page.write_text("<!--=days/day02/result.json: value * 2:.1f-->9<!--/--> and "
                    "`<!--=x-->1<!--/-->`\n", encoding="utf-8")
    assert list(pages.faults(root)) == ["notes/new.md: is stale; run `python -m days write`"]
    assert write.write(root, []) == 0
    assert page.read_text() == ("<!--=days/day02/result.json: value * 2:.1f-->5.0<!--/--> and "
                                "`<!--=x-->1<!--/-->`\n")
    page.write_text("<!--=days/day02/none.json: value-->9<!--/-->\n")
    assert "notes/new.md: cannot be written: " in next(pages.faults(root))
    assert write.write(root, []) == 1


def test_stale_pages_are_a_fault_of_the_whole_and_a_warning_of_a_quick_look(monkeypatch, capsys):
    monkeypatch.setattr(static, "faults", lambda root, days: [])
    monkeypatch.setattr(static, "pages", lambda root: ["notes/x.md: is stale"])
    monkeypatch.setattr(verify.replay, "replay", lambda *a: None)
    assert verify.verify(course.ROOT, quick=True) == 0
    assert "warning: notes/x.md" in capsys.readouterr().out
    assert verify.verify(course.ROOT) == 1
    assert verify.verify(course.ROOT, days={7}) == 0


def test_each_path_has_or_names_all_that_its_days_build_on():
    text = pages.learning_paths(course.ROOT)
    assert {path.name for path in paths.PATHS} >= {"Fundamentals", "Practitioner", "Deep dive",
                                                   "Speed", "Fine-tuning"}
    for path in paths.PATHS:
        assert path.days == sorted(set(path.days)) and set(path.days) <= set(course.DAYS)
        part = text.split(f"\n## {path.name}\n")[1].split("\n## ")[0]
        for day in path.days:
            for before in hours.builds_on(hours.note(course.ROOT, day)):
                assert before in path.days or f"days/day{before:02d}/README.md" in part, (
                    path.name, day, before)
    fundamentals = paths.PATHS[0]
    assert not pages.needed(course.ROOT, fundamentals.days) - set(fundamentals.days)


def test_every_note_says_how_long_it_takes_and_what_it_builds_on():
    for day in course.DAYS:
        if course.written(course.ROOT, day):
            text = hours.note(course.ROOT, day)
            assert hours.time(course.ROOT, day).reading >= 20, day
            assert hours.builds_on(text) or day == 1, day
            assert len(hours.exercises(text)) >= 2, day


def test_the_readme_is_a_landing_page():
    text = (course.ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150 and promise.NAME in text
    for path in paths.PATHS:
        assert f"notes/learning-paths.md#{path.anchor}" in text or path.name == "Deep dive"


def test_the_figure_of_the_readme_is_what_the_records_draw(tmp_path):
    records = [f"days/day{n:02d}/result.json" for n in (6, 16, 22, 35)] + [
        f"experiments/{name}.json" for name in ("minute", "bench_decode", "bench_training")]
    for name in records:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(course.ROOT / name, tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert list(promise.faults(tmp_path)) == []             # no figure, no fault
    (tmp_path / promise.NAME).write_text(promise.drawn(tmp_path), encoding="utf-8")
    assert list(promise.faults(tmp_path)) == []
    for name in records:
        path, kept = tmp_path / name, (tmp_path / name).read_text(encoding="utf-8")
        path.write_text(json.dumps(scaled(json.loads(kept))), encoding="utf-8")
        assert any("is not what the records draw" in fault or "cannot be drawn" in fault
                   for fault in promise.faults(tmp_path)), name
        path.write_text(kept, encoding="utf-8")


def scaled(value):
    """A record with every fraction larger."""
    if isinstance(value, dict):
        return {key: scaled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [scaled(one) for one in value]
    return value * 1.3 if isinstance(value, float) else value


def test_races_name_the_better_peer_and_tokens_a_second():
    rows = promise.pairs(course.ROOT)
    decode = json.loads((course.ROOT / "experiments/bench_decode.json").read_text())
    training = json.loads((course.ROOT / "experiments/bench_training.json").read_text())
    first = next(c for c in decode["llama_cpp"]["cases"] if c["case"] == "decode")
    assert rows[0] == ("SmolLM2, decode Q4_1", first["ours"], first["peer"], "llama.cpp")
    last = training["cases"][-1]
    assert rows[-1][1] == pytest.approx(4 * 64 * 1e3 / last["ours"])
    assert rows[-1][1] / rows[-1][2] == pytest.approx(last["ratio"])


def test_a_map_of_the_readme_has_every_day_once():
    text = generated.course_map(course.ROOT)
    for day in course.DAYS.values():
        assert text.count(f"{day.number:02d}{' ▲' * day.spine} [{day.title}](") == 1


def test_pages_to_play_with_are_built_from_one_source():
    assert list(common.faults(course.ROOT)) == []
    assert len(common.pages(course.ROOT)) == 7
    text = {path.stem: path.read_text("utf-8") for path in common.pages(course.ROOT)}
    assert all(f"/* {name} */" in page for page in text.values() for name in ("style", "element"))
    assert all("/* model */" in text[name] for name in ("ngram", "temperature"))
    # nothing that has a source is written a second time
    assert all(page.count("function element(") == 1 for page in text.values())
    assert all("src=" not in page and "<link rel=\"stylesheet" not in page
               for page in text.values())               # each page stands alone


def test_a_page_that_differs_from_its_source_is_told_and_written(tmp_path):
    source = tmp_path / "notes" / "interactive" / "src"
    source.mkdir(parents=True)
    (source / "style.css").write_text("  a { color: red; }\n")
    page = source.parent / "x.html"
    page.write_text("<style>\n/* style */\n/* end style */\n  b {}\n</style>\n")
    told = ["notes/interactive/x.html: is not built from notes/interactive/src; "
            "run `python -m days write`"]
    assert list(common.faults(tmp_path)) == told
    assert write.write(tmp_path, []) == 0 and list(common.faults(tmp_path)) == []
    assert page.read_text() == ("<style>\n/* style */\n  a { color: red; }\n/* end style */\n"
                                "  b {}\n</style>\n")
    (source / "style.css").write_text("  a { color: blue; }\n")
    assert list(common.faults(tmp_path)) == told
    page.write_text("<style>\n/* style */\n</style>\n")
    assert list(common.faults(tmp_path)) == ["notes/interactive/x.html: has no /* end style */"]
    page.write_text("<style></style>\n")
    assert "has no part /* style */" in next(common.faults(tmp_path))


def terms():
    text = (course.ROOT / "notes" / "glossary.md").read_text(encoding="utf-8")
    return re.findall(r"^- \*\*(.+?)\*\*((?:.|\n(?!- |\n))*)", text, re.M)


def test_the_glossary_has_200_terms_each_with_a_link_to_its_day():
    found = terms()
    assert len({name for name, _ in found}) >= 200
    unlinked = [name for name, said in found if not re.search(r"\(\.\./days/day\d\d/", said)]
    assert not unlinked, unlinked
    assert set(course.DAYS) >= {int(n) for _, said in found
                                        for n in re.findall(r"\.\./days/day(\d\d)/", said)}


def test_sources_has_each_day_that_names_a_paper():
    text = (course.ROOT / "notes" / "sources.md").read_text(encoding="utf-8")
    here = {int(n) for n in re.findall(r"^\*\*(\d\d)[ ,]", text, re.M)}
    papers = {day for day in course.DAYS if course.written(course.ROOT, day)
              and "arXiv" in hours.note(course.ROOT, day).split("\n## Sources")[-1]}
    assert not papers - here, sorted(papers - here)
