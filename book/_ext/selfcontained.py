"""The few lines that make the site self-contained.

Pages load nothing from elsewhere, and nothing large that they can do without.
"""

import re
import shutil
from pathlib import Path


def without_thebe(app, pagename, templatename, context, doctree):
    """Drop sphinx-thebe's scripts, which name another host and fail on every page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [f for f in scripts if "thebe" not in f"{f}{getattr(f, 'attributes', '')}"]


def without_icons_script(app, error):
    """Drop what draws icons, 1.5 MB on every page: a font has them all, too."""
    script = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")
    for page in Path(app.outdir).rglob("*.html"):
        page.write_text(script.sub("", page.read_text("utf-8")), "utf-8")


def with_policies(app, error):
    """Put the policies recorded on Pong where the page *Play* fetches them, and one that is untrained."""
    import torch
    from pgcourse.experiments import checkpoints, records
    from pgcourse.networks.pixels import PixelPolicy

    folder = Path(app.outdir) / "_static" / "pong"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (records.RECORDS_DIR / "reinforce" / "pong" / "seed-0").glob("policy*.safetensors"):
        shutil.copy(path, folder)
    checkpoints.save_weights(folder / "policy-000000000.safetensors", PixelPolicy(seed=0), torch.float16)


def with_list_items(app, pagename, templatename, context, doctree):
    """Make bibliography entries items of their list, which docutils no longer does."""
    body = context.get("body", "")
    context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def bibliography_anew(app, env, added, changed, removed):
    """Read the bibliography again when a page has changed: it lists what pages cite."""
    return ["book/bibliography"] if added | changed | removed else []


def setup(app):
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("html-page-context", with_list_items)
    app.connect("build-finished", without_icons_script)
    app.connect("build-finished", with_policies)
    app.connect("env-get-outdated", bibliography_anew)
    app.add_css_file("pgcourse.css")
    app.add_js_file("explore.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True}
