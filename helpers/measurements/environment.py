"""What this course runs on here: versions, device, model."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from helpers.display.tables import Table
from helpers.machine.device import choose_device, describe
from helpers.native.library import kernels

_PACKAGES = ("torch", "torch_npu", "transformers", "jupyterlab", "ipywidgets", "matplotlib")


def environment_report() -> Table:
    """Return versions and the chosen device, one row each.

    No other output of the course differs from machine to machine.
    """
    rows = [("Python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    rows += [(name, _version(name)) for name in _PACKAGES]
    rows.append(("device", describe(choose_device())))
    rows.append(("native kernels", kernels().reason))
    return Table(("what", "here"), rows)


def _version(package: str) -> str:
    """Return the installed version of a package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> int:
    """Print the report and whether the model is ready; return the exit status, 1 when a part is missing."""
    from helpers.model import checkpoint

    try:
        print(environment_report())
    except (ValueError, RuntimeError) as error:
        print(f"device: {error}")
        return 1
    return checkpoint.main()
