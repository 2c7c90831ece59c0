"""What the site does beside MkDocs: pages from elsewhere, the keys, the version, the project's address.

MkDocs calls it (`hooks` in mkdocs.yml). In a page, `<!-- page PATH -->` stands for a file of this project,
`<!-- part PATH -->` for one a heading lower, `<!-- code PATH -->` for one as a block, `<!-- keys -->` for the tables of
scripts/keys.py.
"""

from __future__ import annotations

import logging
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOG = logging.getLogger("mkdocs.hooks.site_hooks")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def on_config(config: Any) -> Any:
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]
    from mpanet_pl import __version__

    config.repo_url = project()["urls"]["Source"]  # the one place that has it
    config.repo_name = "Source"
    config.copyright = f"mpanet_pl {__version__} · MIT licence"
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    def file(match: re.Match[str]) -> str:
        text = (ROOT / match[2]).read_text("utf-8").strip()
        if match[1] == "code":
            return f"```bash\n{text}\n```"
        lower = "#" if match[1] == "part" else ""
        return re.sub(r"^#", f"{lower}#", text, flags=re.MULTILINE) if lower else text

    markdown = re.sub(r"<!-- (page|part|code) (\S+) -->", file, markdown)
    if "<!-- keys -->" in markdown:
        from keys import page as tables  # type: ignore[import-not-found]

        found = tables()
        for key in re.findall(r"^\| `(.*?)` .*\|  \|$", found, re.MULTILINE):
            LOG.info("scripts/keys.yaml has no sentence for %s", key)
        markdown = markdown.replace("<!-- keys -->", f'<div class="keys" markdown>\n{found}\n</div>')
    return markdown
