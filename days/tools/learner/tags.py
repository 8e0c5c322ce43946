"""The tags day01 … day64: one orphan line of commits, made from HEAD with git plumbing.

Each commit holds the frame and every file whose owner is that day or an earlier one. Author and
dates are fixed, so the same tree gives the same ids. A temporary index is used: the learner's
index, work tree and branches are not touched, and a tag that is not ours is never moved.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from days.harness import UsageError, say
from days.tools.data import ownership
from days.tools.data.course import DAYS

NAME, EMAIL = "The course", "course@localhost"
IDENTITY = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
            for what, value in [("NAME", NAME), ("EMAIL", EMAIL), ("DATE", "@1767225600 +0000")]}


def git(root, *arguments, feed=None, index=None):
    """The output of one git command, as text; UsageError with git's own words if it fails."""
    environment = ownership.git_environment(**IDENTITY, GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(["git", "-c", "i18n.commitEncoding=utf-8", *arguments], cwd=root,
                              input=(feed or "").encode(), env=environment, capture_output=True)
    except FileNotFoundError:
        raise UsageError("git is not installed, and the tags are made by git") from None
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split()) or "failed"
        raise UsageError(f"git {arguments[0]}: {said[:400]}")
    return done.stdout.decode("utf-8", "surrogateescape")


def build(root):
    """Make or move the tags; returns {tag: commit}."""
    need_clone(root)
    if day_of_checkout(root) is not None:
        raise UsageError(f"this is the tree as of day {day_of_checkout(root):02d}, and later days "
                         "are not in it; go back first (git switch -), then make the tags")
    if git(root, "status", "--porcelain"):
        say("uncommitted changes are left alone, and are not in the tags")
    ours = present_tags(root)
    entries = entries_of(root)
    owners, faults = ownership.survey(sorted(entries), heads(root, entries))
    if faults:
        raise UsageError(f"not every file has one owner, so there are no tags: {faults[0]}")
    made = commits(root, entries, owners)
    moves = "".join(f"update refs/tags/{tag} {commit}\n" for tag, commit in made.items())
    moves += "".join(f"delete refs/tags/{tag}\n" for tag in ours if tag not in made)
    git(root, "update-ref", "--stdin", feed=moves)      # all of them, or none
    return made


def need_clone(root):
    """UsageError where root is not the top of a git work tree that has a commit."""
    try:
        top = git(root, "rev-parse", "--show-toplevel").strip()
        git(root, "rev-parse", "--verify", "HEAD")
        if Path(top).resolve() == Path(root).resolve():
            return
    except UsageError as error:
        if not re.search("not a git repository|single revision", str(error)):
            raise
    raise UsageError(f"{root} is not a git clone with a commit, so it cannot have tags; "
                     "clone the course with git")


def present_tags(root):
    """The dayNN tags that are there and ours; one that is not ours ends the work."""
    form = "%(refname:short) %(authoremail)%(taggeremail)"
    ours = []
    for line in git(root, "for-each-ref", f"--format={form}", "refs/tags/day*").splitlines():
        tag, _, author = line.partition(" ")
        if not re.fullmatch(r"day\d\d", tag):
            continue
        if author != f"<{EMAIL}>":
            raise UsageError(f"the tag {tag} was not made by this command; rename or delete it "
                             f"first (git tag -d {tag})")
        ours.append(tag)
    return ours


def entries_of(root):
    """{path: (mode, blob)} of HEAD."""
    entries = {}
    for line in git(root, "ls-tree", "-r", "-z", "HEAD").split("\0")[:-1]:
        about, path = line.split("\t", 1)
        mode, _, blob = about.split()
        entries[path] = (mode, blob)
    return entries


def heads(root, entries):
    """A reader of the first lines of a committed file."""
    def read(path):
        if path not in entries:
            return ""
        text = git(root, "cat-file", "blob", entries[path][1])
        return "".join(text.splitlines(keepends=True)[:3])
    return read


def commits(root, entries, owners):
    """{tag: commit id}: the files of one day after another go into a temporary index."""
    made, parent = {}, []
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        for day in [ownership.FRAME, *ownership.days_in(owners)]:
            mine = [path for path in sorted(entries) if owners[path] == day]
            feed = "".join(f"{entries[p][0]} {entries[p][1]}\t{p}\0" for p in mine)
            git(root, "update-index", "-z", "--index-info", feed=feed, index=index)
            if day == ownership.FRAME:
                continue
            tree = git(root, "write-tree", index=index).strip()
            commit = git(root, "commit-tree", "--no-gpg-sign", tree, *parent,
                         feed=f"Day {day:02d}: {DAYS[day].title}\n").strip()
            made[DAYS[day].name], parent = commit, ["-p", commit]
    return made


def day_of_checkout(root):
    """NN at `git checkout dayNN`, or on commits of one's own on top of it; else None."""
    try:
        subject = git(root, "log", "-1", "--fixed-strings", f"--author={NAME} <{EMAIL}>",
                      "--format=%s")
    except UsageError:
        return None
    found = re.match(r"Day (\d\d): ", subject)
    return int(found[1]) if found else None
