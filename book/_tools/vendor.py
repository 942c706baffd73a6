"""Fetch the scripts that the pages need, so that the built book asks no host but its own.

`python book/_tools/vendor.py` fills book/_vendor/vendor/, and every build calls `vendor` too: what
is there already is left alone. plotly.js comes from the installed plotly package; MathJax and the
widget manager come through npm, pinned by version and checksum. Without npm or a network one line
says so, and the pages load those two from a public CDN.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "_vendor" / "vendor"
STAMP = "versions.json"
NPM_SECONDS = 120


@dataclass(frozen=True)
class Package:
    """One npm package: which of its files are copied, and where a CDN serves its script."""

    npm: str
    version: str
    sha512: str        # of the packed file, base64, as the npm registry publishes it
    strip: str         # leading folders left out of the copied files' paths
    keep: str          # pattern of the paths to keep, after stripping
    script: str        # the file a page loads, relative to the package's folder

    @property
    def cdn(self) -> str:
        """The public address of the same script."""
        inner = self.strip.removeprefix("package/")
        return f"https://cdn.jsdelivr.net/npm/{self.npm}@{self.version}/{inner}{self.script}"


PACKAGES = {
    # a formula loads the TeX extensions that it needs: \boldsymbol, \cancel, \color and others
    "mathjax": Package(
        "mathjax", "3.2.2",
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        "package/es5/", r"tex-mml-chtml\.js|output/chtml/fonts/woff-v2/.*|input/tex/extensions/.*",
        "tex-mml-chtml.js"),
    # embed.js, not embed-amd.js, which needs require.js: with it plotly.js defines no window.Plotly
    "widgets": Package(
        "@jupyter-widgets/html-manager", "1.0.15",
        "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
        "package/dist/", r"embed\.js(\.LICENSE\.txt)?|[0-9a-f]+\.(woff2?|ttf)",
        "embed.js"),
}


def vendor(folder: Path = FOLDER) -> dict[str, str]:
    """Fill `folder` with what is missing; give back name -> version of what lies there complete."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy_plotly(folder)
    absent = [name for name, package in PACKAGES.items()
              if present(folder).get(name) != package.version]
    if absent:
        try:
            _fetch(absent, folder)
        except (OSError, subprocess.SubprocessError, ValueError, tarfile.TarError) as error:
            print("vendor: npm did not bring "
                  f"{' and '.join(PACKAGES[name].npm for name in absent)} ({_reason(error)}); the "
                  "pages will load them from cdn.jsdelivr.net")
    return present(folder)


def present(folder: Path = FOLDER) -> dict[str, str]:
    """Name -> version of what lies complete in `folder`: unpacked by its stamp, still there."""
    stamp = folder / STAMP
    noted = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else {}
    return {name: version for name, version in noted.items() if (folder / script(name)).exists()}


def script(name: str) -> str:
    """The file that a page loads, relative to the vendored folder."""
    return f"{name}/{PACKAGES[name].script}" if name in PACKAGES else f"{name}.min.js"


def _copy_plotly(folder: Path) -> None:
    """Copy plotly.js out of the installed plotly package, so that page and library agree."""
    version = importlib.metadata.version("plotly")
    if present(folder).get("plotly") != version:
        package = Path(importlib.util.find_spec("plotly").origin).parent
        shutil.copyfile(package / "package_data" / "plotly.min.js", folder / script("plotly"))
        _stamp(folder, "plotly", version)


def _fetch(names: list[str], folder: Path) -> None:
    """Download packages with npm, check them, and unpack each; raises where any of it fails."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    specs = [f"{PACKAGES[name].npm}@{PACKAGES[name].version}" for name in names]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        subprocess.run([npm, "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=30000",
                        *specs],
                       cwd=scratch, check=True, capture_output=True, text=True, timeout=NPM_SECONDS)
        for name in names:
            _install(name, Path(scratch), folder)


def _install(name: str, scratch: Path, folder: Path) -> None:
    """Check and unpack one downloaded package, then put it in its place in one step."""
    package = PACKAGES[name]
    packed = scratch / f"{package.npm.strip('@').replace('/', '-')}-{package.version}.tgz"
    _unpack(packed, package, scratch / name)
    shutil.rmtree(folder / name, ignore_errors=True)
    (scratch / name).replace(folder / name)
    _stamp(folder, name, package.version)


def _unpack(packed: Path, package: Package, target: Path) -> None:
    """Write the wanted files of a package to `target`. Raises ValueError on a wrong checksum."""
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if digest != package.sha512:
        raise ValueError(f"{packed.name} has an unexpected checksum")
    with tarfile.open(packed) as archive:
        for member in archive.getmembers():
            path = member.name.removeprefix(package.strip)
            if member.isfile() and path != member.name and re.fullmatch(package.keep, path):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(archive.extractfile(member).read())


def _stamp(folder: Path, name: str, version: str) -> None:
    """Note that `name` lies complete in `folder`."""
    text = json.dumps({**present(folder), name: version}, indent=1, sort_keys=True)
    (folder / STAMP).write_text(text + "\n", encoding="utf-8")


def _reason(error: Exception) -> str:
    """One line on what went wrong."""
    output = (getattr(error, "stderr", None) or "").strip().splitlines()
    return output[-1] if output else str(error).splitlines()[0]


if __name__ == "__main__":
    for name, version in vendor().items():
        print(f"vendor: {name} {version}")
