"""The Python code of the README runs as it is printed, with the demo model and its image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
SCENE = README.parent / "examples" / "demo-scene.jpg"


def test_the_python_code_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    lines = [line for line in code[1].splitlines() if "to_pandas" not in line]  # pandas is no package of an extra
    for name in ("street.jpg", "a.jpg", "b.png"):
        (tmp_path / name).write_bytes(SCENE.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines).replace("Detector()", 'Detector("demo")'), {})
    assert "elephant" in capsys.readouterr().out
    assert (tmp_path / "boxes.jpg").is_file()
