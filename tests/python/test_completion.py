from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2eio.cli.completion import SHELLS
from e2eio.cli.main import main
from e2eio.presets import PRESETS

pytest.importorskip("shtab", reason="completion needs shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "e2eio", "completion", "bash"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        check=True,
    )
    path = tmp_path_factory.mktemp("bash") / "e2eio.bash"
    path.write_text(done.stdout)
    return path


def complete(script: Path, directory: Path, *words: str) -> list[str]:
    """Return what bash offers after these words, the last of which is being typed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
    name=$(complete -p e2eio | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    compopt() { :; }
    "$name" e2eio "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", program, "bash", str(script), "e2eio", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def test_commands_complete(script: Path, tmp_path: Path) -> None:
    assert complete(script, tmp_path, "ver") == ["verify"]
    offered = complete(script, tmp_path, "")
    assert {"convert", "inspect", "verify", "view", "completion"} <= set(offered)


def test_options_complete(script: Path, tmp_path: Path) -> None:
    assert complete(script, tmp_path, "verify", "--ph") == ["--physics"]
    assert {"--html", "--json"} <= set(complete(script, tmp_path, "inspect", "--"))


def test_choices_complete(script: Path, tmp_path: Path) -> None:
    assert set(complete(script, tmp_path, "convert", "--preset", "")) == set(PRESETS)
    assert complete(script, tmp_path, "completion", "z") == ["zsh"]


@pytest.mark.parametrize(
    "words",
    [["verify"], ["view"], ["view", "--out"], ["inspect", "--html"], ["convert"]],
    ids=" ".join,
)
def test_files_complete(script: Path, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "jets.parquet").touch()
    (tmp_path / "jets").mkdir()
    offered = complete(script, tmp_path, *words, "je")
    assert {name.rstrip("/") for name in offered} == {"jets", "jets.parquet"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "e2eio" in text
    assert "--physics" in text or "physics" in text
    bash = shutil.which(shell)
    if bash is not None and shell in ("bash", "zsh", "fish"):
        subprocess.run([bash, "-n"], input=text, text=True, check=True)


def test_without_shtab_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "e2eio[cli]" in capsys.readouterr().err
    assert main(["completion", "powershell"]) == 2
    assert main(["completion", "--help"]) == 0
    assert "examples:\n  e2eio completion bash" in capsys.readouterr().out
