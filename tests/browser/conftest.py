"""The notebooks in JupyterLab, as `make lab` starts it, in Chromium: `make test-browser`.

The whole session shares one JupyterLab, whose cache is empty at the start. So the first notebook
builds the pocket model as on a new machine. Pictures of every notebook are in `runs/browser`.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.paths import ROOT
from labkit import notebooks, working_copy
from pocket_model.cache import CACHE_VARIABLE

PICTURES = ROOT / "runs" / "browser"
FAULTS = Path(__file__).with_name("faults.js")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
TOKEN = "browser-tests"
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
# Every cell is in the page, also one that is not on the screen.
ALL_CELLS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
RUN_LIMIT_S = 240


def missing(what: str) -> None:
    """Skip the test, but fail where the tests must run."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


@pytest.fixture(scope="session")
def chromium():
    """The Chromium of this machine."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: make test-browser installs it")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        missing("no Chromium here. On Debian and Ubuntu: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[*QUIET.split(), "--disable-sync", "--no-first-run"],
            ignore_default_args=["--hide-scrollbars"],
        )
        yield browser
        browser.close()


@dataclass(frozen=True)
class JupyterLab:
    """A running JupyterLab, and the working copy that it shows."""

    folder: Path
    port: int

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={TOKEN}"

    def api(self, path: str, method: str = "GET") -> list | dict | None:
        """The reply of Jupyter's REST API."""
        request = urllib.request.Request(self.address(f"api/{path}"), method=method)
        with urllib.request.urlopen(request) as reply:
            return json.loads(reply.read() or "null")

    def forget_layout(self) -> None:
        """Make the next page open as for a new user."""
        shutil.rmtree(self.folder / working_copy.STATE / "workspaces", ignore_errors=True)
        working_copy.write_settings(self.folder, ALL_CELLS)

    def stop_kernels(self) -> None:
        for session in self.api("sessions"):
            self.api(f"sessions/{session['id']}", "DELETE")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory) -> Iterator[None]:
    """An empty cache, and none of the user's keys and settings of Jupyter."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.endswith("_API_KEY")]:
            patch.delenv(name)
        for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_SETTINGS"):
            patch.setenv(f"{name}_DIR", str(folder / name))
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        yield


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory) -> Iterator[JupyterLab]:
    """JupyterLab on a new working copy."""
    root = tmp_path_factory.mktemp("kit")
    for name in ("GLOSSARY.md", "README.md", "CONTRIBUTING.md", "data"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = JupyterLab(root / "my", free.getsockname()[1])
    working_copy.update(server.folder)
    server.forget_layout()
    command = working_copy.command(server.folder, port=server.port, browser=False)
    options = [f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"]
    process = subprocess.Popen([*command, *options], cwd=root)
    while True:
        assert process.poll() is None, "JupyterLab ended while it was starting"
        with suppress(OSError):
            server.api("status")
            break
        time.sleep(0.1)
    yield server
    server.stop_kernels()
    process.terminate()
    process.wait(timeout=30)


def readability(page) -> list[str]:
    """What `faults.js` finds on a page as it is shown now."""
    if not page.evaluate("'faults' in window"):
        page.add_script_tag(path=FAULTS)
    kinds = {
        "cut": "cut",
        "wider than the page": "sideways",
        "a word broken": "brokenWords",
        "hard to read": "faint",
        "a picture": "emptyFigures",
    }
    return [
        f"{kind}: {fault}"
        for kind, function in kinds.items()
        for fault in page.evaluate(f"faults.{function}()")
    ]


def assert_folds(page, notebook) -> None:
    """Every solution of a notebook unfolds on its page, and folds again.

    In JupyterLab its cell is selected first. At a click on another cell JupyterLab may scroll there
    between the button's down and up, and then the click has no effect.
    """
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    expected = sum(text.count("<details") for text in texts)
    folds = page.locator(".jp-MarkdownOutput details")
    assert folds.count() == expected, f"{folds.count()} solutions, not {expected}"
    for number, fold in enumerate(folds.all()):
        cell = fold.locator("xpath=ancestor::*[contains(@class, 'jp-Cell ')]")
        if (prompt := cell.locator(".jp-InputPrompt")).count():
            prompt.last.click()
        heights = []
        for _ in range(4):
            heights.append(round(fold.bounding_box()["height"]))
            fold.locator("summary").click()
        assert heights[:2] == heights[2:], f"solution {number} does not fold again: {heights}"
        assert heights[1] > heights[0] + 10, f"solution {number} does not unfold: {heights}"


def inaccessible(page, within: str = "html") -> list[str]:
    """What axe-core finds that keeps somebody from using what a selector selects."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context={"include": [within]}).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:100]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.fixture(scope="session")
def serious_faults():
    """The function `inaccessible`."""
    return inaccessible


@pytest.fixture(scope="session")
def solutions_fold():
    """The function `assert_folds`."""
    return assert_folds


@pytest.fixture(scope="session")
def faults_of():
    """The function `readability`."""
    return readability


class Notebook:
    """A notebook that is open in a page of JupyterLab."""

    def __init__(self, jupyter: JupyterLab, page, name: str):
        self.page, self.name = page, name
        self.source = notebooks.read(jupyter.folder / name)
        page.add_init_script(path=FAULTS)
        jupyter.forget_layout()
        page.goto(jupyter.address(f"lab/tree/my/{name}"))
        count = len(self.source.cells)
        self.wait(f"() => document.querySelectorAll('{PANEL} .jp-Cell').length >= {count}")
        # Run All does nothing if the kernel is not connected yet.
        page.evaluate(
            """async () => {
                const session = jupyterapp.shell.currentWidget.sessionContext;
                await session.ready;
                await session.session.kernel.info;
            }"""
        )
        self.cells = page.locator(f"{PANEL} .jp-Cell")
        self.outputs = page.locator(f"{PANEL} .jp-OutputArea-output")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Wait until a JavaScript function returns something true."""
        self.page.wait_for_function(condition, timeout=seconds * 1000)

    def wait_for_kernel(self) -> None:
        """Wait until no cell is running or waiting."""
        prompts = f"[...document.querySelectorAll('{PANEL} .jp-InputArea-prompt')]"
        idle = f"document.querySelector('{PANEL} [data-status=idle]')"
        self.wait(
            f"() => {idle} && !{prompts}.some((p) => p.textContent.includes('*'))", RUN_LIMIT_S
        )

    def run_all(self) -> None:
        """Run All Cells from the menu, until the kernel has finished."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait(
            f"() => [...document.querySelectorAll('{PANEL} .jp-InputArea-prompt')]"
            ".some((p) => p.textContent.includes('*'))"
        )
        self.wait_for_kernel()

    def cell_with(self, text: str):
        """The first code cell whose source contains a text, as a locator."""
        sources = [cell.source if cell.cell_type == "code" else "" for cell in self.source.cells]
        return self.cells.nth(next(i for i, source in enumerate(sources) if text in source))

    def look(self, theme: str, width: int) -> None:
        """Show the notebook in JupyterLab's theme `Light` or `Dark`, `width` pixels wide."""
        self.page.set_viewport_size({"width": width, "height": 1000})
        name = f"JupyterLab {theme}"
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", name
        )
        # The theme's colors come from a style sheet, which arrives after its name. Until then
        # JupyterLab covers the page.
        dark = str(theme == "Dark").lower()
        self.wait(
            f"""() => {{
                const body = document.body;
                const color = getComputedStyle(body).getPropertyValue('--jp-layout-color0');
                return body.dataset.jpThemeName === '{name}'
                    && /^#[0-3]/.test(color) === {dark}
                    && !document.querySelector('#jupyterlab-splash');
            }}"""
        )

    def red_boxes(self) -> list[str]:
        """The texts in JupyterLab's red boxes: errors, and what was printed on stderr."""
        return self.page.evaluate("faults.redBoxes()")

    def take_pictures(self, label: str) -> None:
        """Save the notebook, screen by screen."""
        box = f"document.querySelector('{PANEL} .jp-WindowedPanel-outer')"
        self.page.evaluate(f"{box}.scrollTop = 0")
        # Below the last cell JupyterLab has an empty screen.
        last = self.cells.last.bounding_box()
        step = self.page.evaluate(f"{box}.clientHeight - 20")
        total = int(last["y"] + last["height"]) - 100
        for number, top in enumerate(range(0, total, step)):
            self.page.evaluate(f"{box}.scrollTop = {top}")
            name = f"{self.name[:2]}-{label}-{number:02}.png"
            self.page.screenshot(path=PICTURES / name)


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder for this session's pictures, empty."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    return PICTURES


@pytest.fixture(scope="session")
def open_notebook():
    """The class `Notebook`, for a test that opens one by itself."""
    return Notebook


# Its training takes minutes, and the suite's comparison of outputs runs it as well.
WITHOUT_TRAINING = [path.name for path in notebooks.available() if path.stem[:2] != "09"]


@pytest.fixture(scope="module", params=WITHOUT_TRAINING)
def notebook(request, jupyter, chromium, pictures) -> Iterator[Notebook]:
    """Each notebook, run whole. All tests of the module see the same page."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    notebook = Notebook(jupyter, page, request.param)
    notebook.run_all()
    yield notebook
    page.close()
    jupyter.stop_kernels()
