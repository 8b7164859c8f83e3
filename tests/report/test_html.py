from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.reports import KEPT, OPTIMIZED, REFUSED

from tpopt.report import KernelRow, Report
from tpopt.report.html import Graphs, page

VOID = {"meta", "br", "link", "img", "path", "rect"}


class Checker(HTMLParser):
    """Tags that close what they opened, and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


@pytest.mark.parametrize("report", [OPTIMIZED, KEPT, REFUSED], ids=["optimized", "kept", "refused"])
def test_a_page_is_well_formed_and_stands_alone(report: Report):
    text = page(report, Graphs("program p(x: f32[1])\nreturn x", ""))
    found = checked(text)
    assert found.references == []
    assert found.tags & {"script", "link", "iframe", "img", "object"} == set()
    assert re.findall(r"url\(|@import|https?:", text) == []


def test_every_kernel_and_every_decision_is_there():
    text = page(OPTIMIZED)
    assert [k.name for k in OPTIMIZED.kernels if k.name not in text] == []
    assert text.count("<details>") == len(OPTIMIZED.choice)
    assert text.count("<rect") == len(OPTIMIZED.kernels)


def test_what_a_report_says_is_text_and_never_markup():
    evil = "<script>alert(1)</script>\"'&"
    kernels = (KernelRow(kind=evil, name=evil, source=(evil,), measured_us=1.0),)
    text = page(replace(OPTIMIZED, kernels=kernels, result=replace(OPTIMIZED.result, reason=evil)), Graphs(evil, evil))
    assert "script" not in checked(text).tags
    assert text.count("&lt;script&gt;") >= 4


def test_many_kernels_are_drawn_as_one():
    kernels = tuple(KernelRow(kind="gemm", name=f"k{n}", measured_us=float(n)) for n in range(200))
    text = page(replace(OPTIMIZED, kernels=kernels))
    assert (text.count("<rect"), "140 others" in text) == (61, True)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="there is no Chromium to look at the page with")
def test_a_browser_draws_it(tmp_path: Path):
    browser = next(b for b in BROWSERS if shutil.which(b))
    (tmp_path / "page.html").write_text(page(OPTIMIZED), encoding="utf-8")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1600"]
    picture = tmp_path / "page.png"
    subprocess.run(
        [browser, *arguments, f"--screenshot={picture}", str(tmp_path / "page.html")], check=True, timeout=60
    )
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size > 20_000  # an empty page of this size takes a tenth of that
