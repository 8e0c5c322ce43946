"""pip and uv install the same: pyproject.toml's groups are those of the requirements files."""

import re
import tomllib

import pytest

from days.tools.data import course

GROUPS = ["book", "notebook", "serve", "mpi"]


def listed(name):
    """{package: bounds} of one requirements file, without comments and other files."""
    lines = (course.ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(split(line.split("#")[0].strip()) for line in lines
                if re.match(r"[a-z]", line))


def split(requirement):
    return re.match(r"([\w.-]+)(.*)", requirement).groups()


def project():
    return tomllib.loads((course.ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_uv_sync_installs_what_pip_does():
    said = project()
    wanted = said["project"]["dependencies"] + said["dependency-groups"]["course"]
    found = dict(map(split, wanted))
    assert found.pop("pip") == ""           # uv's environments have none; the texts come by pip
    assert found == listed("requirements.txt")
    assert said["tool"]["uv"]["default-groups"] == ["course"]


@pytest.mark.parametrize("group", GROUPS)
def test_each_optional_group_is_its_requirements_file(group):
    said = dict(map(split, project()["dependency-groups"][group]))
    assert said == listed(f"requirements-{group}.txt")


def test_the_package_itself_needs_only_numpy_and_numba():
    assert {split(one)[0] for one in project()["project"]["dependencies"]} == {"numpy", "numba"}
