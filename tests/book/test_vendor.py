"""Vendored scripts: what npm can bring is checked and kept once; what it cannot, the pages take from a public CDN."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import plotly
import pytest
import vendor


@pytest.fixture
def packed(tmp_path):
    """An npm package of four files, packed as the registry serves it."""
    path = tmp_path / "tiny-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("dist/tiny.js", "dist/fonts/a.woff", "dist/tiny.js.map", "README.md"):
            name = f"package/{name}"
            content = name.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def tiny(packed, monkeypatch):
    """The tiny package in the place of the real ones."""
    checksum = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    package = vendor.Package("tiny", "1.0.0", checksum, "package/dist/", r"tiny\.js|fonts/.*", "tiny.js")
    monkeypatch.setattr(vendor, "PACKAGES", {"tiny": package})
    return package


def fake_npm(tmp_path, monkeypatch, script):
    """Put a shell script in the place of npm."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setattr(vendor.shutil, "which", lambda name: str(npm))


def kept(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_plotly_js_is_the_one_of_the_installed_package_so_figures_and_script_agree(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    assert vendor.vendor(tmp_path / "v") == {"plotly": plotly.__version__}
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    assert (tmp_path / "v" / "plotly.min.js").read_bytes() == source.read_bytes()


def test_only_the_files_that_pages_need_are_kept_and_a_second_run_needs_no_npm(
        tmp_path, tiny, packed, monkeypatch, capsys):
    fake_npm(tmp_path, monkeypatch, f"cp {packed} .")
    assert vendor.vendor(tmp_path / "v")["tiny"] == "1.0.0"
    assert kept(tmp_path / "v") == ["plotly.min.js", "tiny/fonts/a.woff", "tiny/tiny.js", "versions.json"]
    fake_npm(tmp_path, monkeypatch, "exit 1")
    assert vendor.vendor(tmp_path / "v")["tiny"] == "1.0.0"
    assert capsys.readouterr().out == ""


def test_a_lost_file_is_fetched_again(tmp_path, tiny, packed, monkeypatch):
    fake_npm(tmp_path, monkeypatch, f"cp {packed} .")
    vendor.vendor(tmp_path / "v")
    (tmp_path / "v" / "tiny" / "tiny.js").unlink()
    assert "tiny" not in vendor.present(tmp_path / "v")
    assert "tiny" in vendor.vendor(tmp_path / "v")


@pytest.mark.parametrize(("script", "reason"), [
    ("echo 'getaddrinfo ENOTFOUND' >&2; exit 1", "getaddrinfo ENOTFOUND"),
    ("echo tampered > tiny-1.0.0.tgz", "unexpected checksum"),
    ("true", "tiny-1.0.0.tgz"),
])
def test_a_failed_fetch_says_in_one_line_that_the_cdn_is_used_and_leaves_nothing_behind(
        tmp_path, tiny, monkeypatch, capsys, script, reason):
    fake_npm(tmp_path, monkeypatch, script)
    assert "tiny" not in vendor.vendor(tmp_path / "v")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and reason in lines[0] and "cdn.jsdelivr.net" in lines[0]
    assert kept(tmp_path / "v") == ["plotly.min.js", "versions.json"]


def test_the_cdn_serves_the_very_files_that_are_vendored():
    assert {name: package.cdn for name, package in vendor.PACKAGES.items()} == {
        "mathjax": "https://cdn.jsdelivr.net/npm/mathjax@3.2.2/es5/tex-mml-chtml.js",
        "widgets": "https://cdn.jsdelivr.net/npm/@jupyter-widgets/html-manager@1.0.15/dist/embed.js"}
