"""How Sphinx makes the site of what tools.site.build lays out for it."""

import os
from pathlib import Path

from tools.site.pages import Repository

project = html_title = "Neural networks from scratch"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
    "tools.site.mathematics",
    "tools.site.pages",
]
site_repository = Repository(os.environ.get("SITE_REPOSITORY", ""))

# text: the notebooks as they are stored, our docstrings as plain text
nb_execution_mode = "off"
myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
add_module_names = False
toc_object_entries_show_parents = "hide"
html_math_renderer = "mathml"

# look
html_theme = "sphinx_book_theme"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
templates_path = [str(Path(__file__).parent / "templates")]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False
html_use_index = True
html_favicon = str(Path(__file__).parent / "static" / "favicon.svg")
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],  # else a second bar with a second search
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "collapse_navbar": True,
    "navigation_with_keys": False,
    "footer_content_items": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
copybutton_exclude = ".linenos, .gp, .go"
