"""README.md and docs/*.md are true: every fenced block is run, as it is printed or as a comment above it says.

A block names its language.

bash    Each line is carried out, in one folder for each page, in which everything is small (small_world.py): there
        `recipe cifar10 at+awp` takes a second. Programs of ours run in this process. Of `make` it is asked only whether
        it knows the target. torchrun with --nnodes, alone or within srun, is expanded by bash and read, not started.
python  It is executed, with the names that the page's earlier blocks have left. A message of ours in a comment behind a
        print must be printed.
yaml    It is a recipe: as mine.yaml it is resolved, checked and shown.
text    What a program prints, or a picture in letters. It is not run.

Where a printed block cannot run (a NAME to fill in, hours of work), an HTML comment on the lines above its fence, which
readers do not see, says what is run in its place:

    <!-- run: python -m rb_smooth.leaderboard verify at_small_preactresnet_s0 -->

That may be several lines. They must use every option that the block prints, and the printed block is read: by its
programs' own parsers, and its recipes, as we ship them, are resolved and checked. Blocks that another test runs are
listed in ELSEWHERE.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import pytest
import test_adding_a_method
import test_api_page
from check_commands import Call, check_call, check_python, options_of_calls, program_and_arguments
from document_sandbox import ROOT, run_command, small_recipes, write_sandbox
from fenced_blocks import Block, fenced_blocks, program_calls, script_commands

pytestmark = pytest.mark.slow

PATHS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PATHS}
ELSEWHERE = {
    "docs/api.md": test_api_page.BLOCKS,
    "docs/adding-a-method.md": [text for _, text in test_adding_a_method.BLOCKS],
}
"""Of a page, the blocks that the test named after it has read from it, and runs."""


class DocumentRunner:
    """Runs the blocks of a page, one after the other. world: where small recipes are; page: the folder to type in."""

    def __init__(self, world: Path, page: Path) -> None:
        self.world, self.page = world, page
        self.left: dict[str, object] = {}
        """What blocks of Python have left."""

    def run(self, block: Block) -> None:
        run = {"bash": self._run_bash, "python": self._run_python, "yaml": self._run_yaml, "text": lambda _: None}
        assert block.kind in run, (
            f"{block.location}: expected bash, python, yaml or text, got {block.kind or 'nothing'!r}"
        )
        try:
            run[block.kind](block)
        except Exception as error:
            raise AssertionError(f"{block.location}: {error}") from error

    def _run_bash(self, block: Block) -> None:
        printed: list[Call] = []
        instead = [call for line in script_commands(block.replacement or "") for call in self._run_line(line)]
        for line in script_commands(block.text):
            calls = program_calls(line, self.page) if block.replacement else self._run_line(line)
            for call in calls:
                check_call(call)
            printed += calls
        if block.replacement:
            unused = options_of_calls(printed) - options_of_calls(instead)
            assert not unused, f"printed, and not used by what is run instead: {unused}"

    def _run_python(self, block: Block) -> None:
        if block.replacement:
            check_python(block.text)
        said = io.StringIO()
        with small_recipes(self.world), redirect_stdout(said):
            exec(compile(block.replacement or block.text, block.location, "exec"), self.left)
        for message in re.findall(r"^ *print\(.*\)  # (expected .*)$", block.text, re.MULTILINE):
            assert message in said.getvalue()

    def _run_yaml(self, block: Block) -> None:
        (self.page / "mine.yaml").write_text(block.text)
        for line in script_commands(block.replacement or "python -m rb_smooth.recipe show mine.yaml"):
            self._run_line(line)

    def _run_line(self, line: str) -> list[list[str]]:
        calls = program_calls(line, self.page)
        for call in calls:
            program = program_and_arguments(call)
            if call[0] == "torchrun" and "--nnodes" not in call:
                command = [sys.executable, "-m", "torch.distributed.run", *call[1:]]
                environment = os.environ | {"PYTHONPATH": str(ROOT)}
                done = subprocess.run(command, cwd=self.page, env=environment, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
            elif program is not None and "--nnodes" not in call:
                only_shown = program[0] == "recipe" and program[1][0] in ("list", "show", "keys")
                with nullcontext() if only_shown else small_recipes(self.world):
                    assert run_command(*program) == 0, f"{line}: see what it printed"
        return calls


BROKEN_PAGES = {
    "a block that names no language": "```\npython -m rb_smooth.recipe list\n```",
    "a language that nobody runs": "```rust\nfn main() {}\n```",
    "a fence that is not closed": "```bash\nmake demo\n",
    "an option that is not there": "```bash\npython -m rb_smooth.recipe show digits at --eps 8/255\n```",
    "a recipe that is not there": "```bash\npython -m rb_smooth.recipe show digits att\n```",
    "a key that is not there": "```bash\npython -m rb_smooth.recipe show digits at --set optimizer.lrr=1\n```",
    "a program that is not there": "```bash\npython -m rb_smooth.recipes list\n```",
    "a command that fails": "```bash\npython -m rb_smooth.runs compare nothing\n```",
    "another program that fails": "```bash\nls nothing\n```",
    "a target that make does not know": "```bash\nmake tea\n```",
    "a quote that is not closed": "```bash\nsrun bash -c 'torchrun -m rb_smooth.recipe digits at\n```",
    "a recipe on several machines that is not there": (
        "```bash\nsrun bash -c 'torchrun --nnodes 2 -m rb_smooth.recipe digits att'\n```"
    ),
    "a variable that nobody sets": "```bash\nmake $TARGET\n```",
    "a printed recipe that is not there, though what is run instead is": (
        "<!-- run: python -m rb_smooth.recipe show digits at -->\n```bash\npython -m rb_smooth.recipe digits att\n```"
    ),
    "an option that is printed and not run": (
        "<!-- run: python -m rb_smooth.recipe show digits at -->\n"
        "```bash\npython -m rb_smooth.recipe show digits at --set optimizer.lr=1\n```"
    ),
    "Python that raises": "```python\n1 / 0\n```",
    "a message that is not printed": "```python\nprint(1)  # expected 2, got 1; correct it\n```",
    "a name that is not ours": '<!-- run: pass -->\n```python\nrb_smooth.trian("digits/at")\n```',
    "an argument that is not there": '<!-- run: pass -->\n```python\nrb_smooth.train("digits/at", sede=1)\n```',
    "a recipe that is not there, in Python": '<!-- run: pass -->\n```python\nrb_smooth.train("digits/att")\n```',
    "a recipe of one's own with a section that is not there": "```yaml\nbase: digits/at\noptimiser: {lr: 1}\n```",
}
"""Pages with one fault each."""


def test_what_is_wrong_on_a_page_is_found(document_runner):
    for fault, page in BROKEN_PAGES.items():
        try:
            for block in fenced_blocks("planted", page + "\n"):
                document_runner.run(block)
        except AssertionError:
            continue
        pytest.fail(f"{fault} is not found")


@pytest.fixture
def document_runner(tmp_path, monkeypatch):
    world, page = tmp_path / "world", tmp_path / "page"
    write_sandbox(world, page, monkeypatch)
    monkeypatch.chdir(page)
    return DocumentRunner(world, page)


@pytest.mark.usefixtures("short_attacks", "no_curve_plots")
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(page, document_runner):
    for block in fenced_blocks(page, PAGES[page]):
        if block.text not in ELSEWHERE.get(page, []):
            document_runner.run(block)
