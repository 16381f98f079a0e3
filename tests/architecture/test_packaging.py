"""What is installed is what is here: files that are no modules must be named to be packed."""

import tomllib
from pathlib import Path


def test_every_file_of_the_application_is_in_the_wheel() -> None:
    packed = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    named = {
        file
        for package, patterns in packed["package-data"].items()
        for pattern in patterns
        for file in Path(*package.split(".")).glob(pattern)
    }
    files = {
        file
        for file in Path("app").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert {file.name for file in files} >= {"index.html", "page.css", "page.js"}
    assert files == named
