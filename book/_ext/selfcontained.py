"""The few lines that make the site self-contained and never stale.

Pages load nothing from elsewhere, and nothing large that they can do without; sliders
are baked (``PGCOURSE_BAKE``, which the kernels inherit); a change of the package or of
the pinned environment executes every notebook again.
"""

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

ROOT = Path(__file__).parents[2]


def digest() -> str:
    """Return a digest of what a notebook's outputs depend on, besides itself."""
    kinds = (".py", ".mplstyle", ".json", ".csv", ".safetensors")
    files = [f for f in (ROOT / "pgcourse").rglob("*.*") if f.suffix in kinds]
    files = [f for f in files if ".ipynb_checkpoints" not in f.parts]
    state = hashlib.sha256()
    for file in [*sorted(files), ROOT / "requirements.txt"]:
        state.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return state.hexdigest()[:16]


def execute_anew(app, config):
    caches = Path(app.outdir).parent / ".jupyter_cache"
    config.pgcourse_digest = digest()
    config.nb_execution_cache_path = str(caches / config.pgcourse_digest)
    for old in caches.glob("*"):
        if old.name != config.pgcourse_digest:
            shutil.rmtree(old)


def with_outputs(app, error):
    """Write outputs into executed notebooks, also where they come from the cache.

    They are what the tests compare; MyST-NB 1.4 leaves them out there.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    for file in (Path(app.outdir).parent / "jupyter_execute").rglob("*.ipynb"):
        with suppress(KeyError):  # one whose execution failed is not in the cache
            executed = cache.merge_match_into_notebook(nbformat.read(file, 4))[1]
            nbformat.write(executed, file)


def without_thebe(app, pagename, templatename, context, doctree):
    """Drop sphinx-thebe's scripts, which name another host and fail on every page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [
        f for f in scripts if "thebe" not in f"{f}{getattr(f, 'attributes', '')}"
    ]


def without_icons_script(app, error):
    """Drop what draws icons, 1.5 MB on every page: a font has them all, too."""
    script = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")
    for page in Path(app.outdir).rglob("*.html"):
        page.write_text(script.sub("", page.read_text("utf-8")), "utf-8")


def with_list_items(app, pagename, templatename, context, doctree):
    """Make bibliography entries items of their list, which docutils no longer does."""
    body = context.get("body", "")
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def bibliography_anew(app, env, added, changed, removed):
    """Read the bibliography again when a page has changed: it lists what pages cite."""
    return ["book/bibliography"] if added | changed | removed else []


def setup(app):
    os.environ["PGCOURSE_BAKE"] = "1"
    app.add_config_value("pgcourse_digest", "", "env")
    app.connect("config-inited", execute_anew, priority=100)
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("html-page-context", with_list_items)
    app.connect("build-finished", with_outputs)
    app.connect("build-finished", without_icons_script)
    app.connect("env-get-outdated", bibliography_anew)
    app.add_css_file("pgcourse.css")
    app.add_js_file("explore.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True}
