"""What this course runs on here: versions, device, model."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from helpers.display.tables import Table
from helpers.machine.device import choose_device, describe

_PACKAGES = ("torch", "torch_npu", "transformers", "jupyterlab", "ipywidgets", "matplotlib")


def environment_report() -> Table:
    """Versions and the chosen device, one row each. The one output of the course that differs from machine to machine."""
    rows = [("Python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    rows += [(name, _version(name)) for name in _PACKAGES]
    rows.append(("device", describe(choose_device())))
    return Table(("what", "here"), rows)


def _version(package: str) -> str:
    """The installed version, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> int:
    """Prints the report and says whether the model is ready; exit status 1 when something is missing."""
    from helpers.model import checkpoint

    try:
        print(environment_report())
    except (ValueError, RuntimeError) as error:
        print(f"device: {error}")
        return 1
    return checkpoint.main()
