"""The checks that run nothing: ownership, imports, parts and notes. Seconds, even for 64 days."""

from days.tools.author import common, promise
from days.tools.checks import imports, notes, parts, prose
from days.tools.data import generated, ownership
from days.tools.data import pages as made
from days.tools.learner import tags


def faults(root, days=None):
    """Every fault of the tree that can be seen without running a day, as one line each."""
    names = ownership.files(root)
    owners, found = ownership.survey(names, ownership.head(root))
    found += imports.faults(root, owners)
    found += parts.long_files(root, owners)
    for day in ownership.days_in(owners):
        if days is None or day in days:
            found += parts.faults(root, day, owners)
            found += notes.faults(root, day, owners)
    if tags.day_of_checkout(root) is None:      # at `git checkout day17` the frame looks ahead
        for path in names:
            room = path.split("/")[0]
            if path.endswith(".md") and (path == "README.md" or room in ownership.ROOMS):
                found += notes.links(root, path)
        found += readme(root)
    return found


def readme(root):
    """README.md must hold the present map, and what the main job and other records show."""
    path = root / "README.md"
    if not path.is_file():
        return ["README.md: is missing"]
    text = path.read_text(encoding="utf-8")
    found = [] if generated.has_block(text, "map") else ["README.md: has no <!-- map --> block"]
    plain = prose.blank(prose.CODE, prose.unfenced(text))
    if plain.count("<!--=") != len(generated.MARKER.findall(plain)):
        found.append("README.md: a value marker <!--=…--> is not closed by <!--/-->")
    try:
        if generated.readme(text, root) != text:
            found.append("README.md: the map, the first run or a value is stale; "
                         "run `python -m days write`")
    except Exception as error:      # whatever a half-written run.py does, the check goes on
        found.append(f"README.md: cannot be written: {type(error).__name__}: {error}")
    return found


def pages(root):
    """What is made from other files: pages of notes/, parts they share, README.md's figure."""
    if tags.day_of_checkout(root) is not None:
        return []
    return [*made.faults(root), *common.faults(root), *promise.faults(root)]
