"""The few lines that make the site self-contained.

Pages load nothing from elsewhere, and nothing large that they can do without.
"""

import re
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


def write_policies(folder):
    """Write the policies of chapter 4's first run, from untrained to the last, in half precision."""
    from pgcourse.experiments import checkpoints, records

    record = records.load("reinforce/pong")[0]
    folder.mkdir(parents=True, exist_ok=True)
    untrained = record.recipe.build(record.seed, n_envs=1)
    untrained.env.close()
    policies = {f"-{n:09d}": record.policy(n) for n in record.policy_steps()} | {"": record.policy()}
    for name, policy in (policies | {"-000000000": untrained.policy}).items():
        checkpoints.save_weights(folder / f"policy{name}.safetensors", policy)


def with_policies(app, error):
    """Have the policies beside the page that fetches them."""
    write_policies(Path(app.outdir) / "_static" / "pong")


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
