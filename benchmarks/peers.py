"""Install what e2eio is measured beside, and say what could not be installed and why.

Groups of packages go into environments of their own below .peers, which share torch, numpy and all
else of this interpreter; a group that this interpreter has already is left alone. Every environment
keeps this torch, and gets builds for the CPU. Nothing is installed anywhere else, but for Debian's
packages that a build needs, where apt-get may be used without asking.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

from harness.command import make_parser
from harness.peer_environments import (
    GROUPS,
    PEERS,
    Group,
    is_here,
    read_state,
    shared_packages,
    write_state,
)

__all__ = ["describe", "install", "main"]

EXAMPLES = """\
examples:
  python benchmarks/peers.py install                  all groups that are not there yet
  python benchmarks/peers.py install litdata grain    some
  python benchmarks/peers.py list                     what is there, and why the rest is not
"""
HERE = Path(__file__).resolve().parent
TIMEOUT_S = 1800
LEAST_FREE = 3 * 2**30  # bytes of disk that are left alone


def describe(name: str) -> str:
    """Return a line on a group: its packages and where they are, or why they are not."""
    state = read_state(name)
    asked = " ".join(GROUPS[name].requirements)
    if state.get("installed"):
        return f"{name}: {state['versions']} in {PEERS / name}"
    if is_here(name):
        return f"{name}: {asked}: among this interpreter's packages"
    if state.get("why"):
        return f"{name}: {asked}: not installed: {state['why']}"
    return f"{name}: {asked}: not installed yet"


def install(name: str) -> bool:
    """Install a group unless it is there; return whether it is now.

    What fails is written down with the last line of pip's error, and shown by `describe`.
    """
    group = GROUPS[name]
    if read_state(name).get("installed") or is_here(name):
        return True
    folder = PEERS / name
    why = _install(group, folder)
    if why:
        if folder.exists():
            shutil.rmtree(folder)
        write_state(name, {"installed": False, "why": why})
        return False
    write_state(name, {"installed": True, "versions": _versions(group, folder)})
    return True


def _install(group: Group, folder: Path) -> str:
    """Make the environment; return why it could not be made, "" if it was."""
    PEERS.mkdir(exist_ok=True)
    if shutil.disk_usage(PEERS).free < LEAST_FREE:
        return f"less than {LEAST_FREE / 2**30:.0f} GiB of disk are free"
    if why := _install_system(group.system):
        return why
    venv.create(folder, clear=True, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "shared.pth").write_text("\n".join(shared_packages()) + "\n", encoding="utf-8")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in _constraints()), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    done = _run([*pip, *quiet, "-c", str(constraints), *group.requirements])
    if done:
        return done
    python = str(folder / "bin" / "python")
    program = f"{group.before}\nimport {', '.join(group.modules)}"
    return _run([python, "-c", program], {**os.environ, "PYTHONPATH": str(HERE)})


def _constraints() -> list[str]:
    """Return what no group may replace: a second torch would be gigabytes."""
    try:
        version = metadata.version("torch").partition("+")[0]
    except metadata.PackageNotFoundError:
        return ["torch==2.13.0"]
    return [f"torch=={version}"]


def _install_system(packages: tuple[str, ...]) -> str:
    """Install Debian packages where that needs no password; return why that failed."""
    dpkg = shutil.which("dpkg-query")
    missing = [name for name in packages if not (dpkg and _is_installed(dpkg, name))]
    if not missing:
        return ""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return f"needs {' '.join(missing)}; as root: apt-get install {' '.join(missing)}"
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    update = _run([apt, "update", "-qq"])
    return update or _run([apt, "install", "-y", "-qq", "--no-install-recommends", *missing])


def _is_installed(dpkg: str, package: str) -> bool:
    query = [dpkg, "-W", "-f", "${db:Status-Status}", package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command; return "" or the line of its output that says best why it failed."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"{Path(command[0]).name} took more than {TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "e: "))]
    return (errors or lines or [f"exit code {done.returncode}"])[-1][:300]


def _versions(group: Group, folder: Path) -> str:
    names = [requirement.partition(">")[0].partition("[")[0] for requirement in group.requirements]
    program = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    python = str(folder / "bin" / "python")
    done = subprocess.run(
        [python, "-c", program, *names], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Install or list; return 0 even where a peer could not be had: the list says so."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("verb", choices=("install", "list"))
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"out of: {', '.join(GROUPS)}")
    told = parser.parse_args(arguments)
    names = told.groups or list(GROUPS)
    if unknown := set(names) - set(GROUPS):
        parser.error(f"unknown groups: {', '.join(sorted(unknown))}; expected {', '.join(GROUPS)}")
    for name in names:
        if told.verb == "install":
            if told.groups:  # asked for by name: tried again
                shutil.rmtree(PEERS / name, ignore_errors=True)
            print(f"== {name}", flush=True)
            install(name)
        print(describe(name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
